"""The analyzed videos of one shard, read in a fixed order and numbered shot by shot.

A shot's number is the same in every task, so tasks can talk about shots without naming them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fw_model.schemas.curated_rows import AnalyzedVideoRow
from pipelines.curation.config import CurationConfig
from pipelines.curation.ledger.ledger import Entry, Ledger
from pipelines.curation.ledger.shards import Shard
from pipelines.curation.sources import sources_of

if TYPE_CHECKING:
    from pipelines.curation.assembly.aesthetic import ShotAesthetics

NUMBERS_PER_SHARD = 1 << 40
FINGERPRINTS = "shots.list.element.fingerprint"


@dataclass(frozen=True)
class AssemblyInput:
    """What every shard's tasks need: the settings and the ledger that they read."""

    config: CurationConfig
    analyzed: Ledger[AnalyzedVideoRow]
    aesthetics: ShotAesthetics | None

    def scores(self, video: AnalyzedVideoRow) -> dict[str, float]:
        """Return the aesthetic scores of a video's shots by id; none without a head."""
        return self.aesthetics.scores(video["shots"]) if self.aesthetics else {}


@dataclass(frozen=True)
class AnalyzedShard:
    """The videos of a shard, of those that are listed (`sources`), in order of their ids."""

    given: AssemblyInput
    shard: Shard
    sources: pa.Table

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """The listed videos that are analyzed, with the number of their shots."""
        ids = sorted(source.source_id for source in sources_of(self.sources))
        if not ids:
            return {}
        found = self.given.analyzed.entries(["num_shots"], self.shard, ids)
        return {i: found[i] for i in ids if i in found}

    @cached_property
    def first_numbers(self) -> NDArray[np.int64]:
        """The number of each video's first shot [V], in the order of `entries`."""
        counts = [entry.values["num_shots"] or 0 for entry in self.entries.values()]
        starts = np.cumsum([0, *counts])[:-1].astype(np.int64)
        return starts + self.shard.index * NUMBERS_PER_SHARD

    def read(self, chosen: Mapping[str, Entry]) -> Iterator[tuple[int, AnalyzedVideoRow]]:
        """Yield videos, each with the number of its first shot."""
        firsts = dict(zip(self.entries, self.first_numbers.tolist(), strict=True))
        for video in self.given.analyzed.read(chosen):
            yield firsts[video["source_id"]], video

    def fingerprints(self) -> Iterator[tuple[int, list[bytes]]]:
        """Yield the number and the fingerprints of each shot that has some."""
        rows = self.given.analyzed.read(self.entries, [FINGERPRINTS])
        for first, row in zip(self.first_numbers.tolist(), rows, strict=True):
            for place, shot in enumerate(row["shots"] or []):
                if shot["fingerprint"]:
                    yield first + place, shot["fingerprint"]

    def videos_of(self, numbers: Collection[int]) -> dict[str, Entry]:
        """Return the entries of the videos with these shots."""
        wanted = np.asarray(list(numbers), np.int64)
        places = np.unique(np.searchsorted(self.first_numbers, wanted, side="right") - 1)
        ids = list(self.entries)
        return {ids[place]: self.entries[ids[place]] for place in places.tolist()}
