"""The assemble phase of curation: analyzed videos to the staged tables of videos, shots and scenes.

It handles numbers only, no images, so every run does it again. In memory are one part of the tables
and, for all shots, what `DuplicateCandidates` keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pipelines.curation.assembly.aesthetic import ShotAesthetics
from pipelines.curation.assembly.assemble import TABLES, assemble_video, shot_prints
from pipelines.curation.assembly.near_duplicates import DuplicateCandidates, find_duplicates
from pipelines.curation.config import CurationConfig
from pipelines.curation.ledger.ledger import Entry, Ledger
from pipelines.curation.ledger.receipts import code_version
from pipelines.curation.ledger.tables import Draft, Part
from pipelines.storage.store import Store

Progress = Callable[[str, int, int], None]

FINGERPRINTS = "shots.list.element.fingerprint"
SHOTS_PER_PART = 8_000  # 32 to 64 MB, with their embeddings
VIDEOS_PER_PART = 8_000


class AssemblePhase:
    """Filters, duplicates and scenes over all analyzed videos."""

    def __init__(
        self,
        config: CurationConfig,
        store: Store,
        analyzed: Ledger,
        aesthetics: ShotAesthetics | None,
        run_id: str,
        on_progress: Progress,
    ) -> None:
        self._config = config
        self._store = store
        self._analyzed = analyzed
        self._aesthetics = aesthetics
        self._run_id = run_id
        self._on_progress = on_progress

    def run(self, source_ids: Sequence[str]) -> list[Part]:
        """Stage the tables, in the order of `source_ids`; return their parts."""
        entries = self._analyzed.entries(["num_shots"])
        groups = grouped({i: e for i in source_ids if (e := entries.get(i))})
        filters, scenes = self._config.filters, self._config.scenes
        duplicates, code = self._duplicates(groups), code_version("assembly")
        parts = []
        for place, group in enumerate(groups):
            drafts = {name: Draft(name) for name in TABLES}
            for video in self._measured(group):
                rows = assemble_video(
                    video, duplicates, filters=filters, scenes=scenes, assembly_code=code
                )
                for name, draft in drafts.items():
                    draft.add(getattr(rows, name))
            parts += [d.stage(self._store, place, self._run_id) for d in drafts.values()]
            self._on_progress("assemble", place + 1, len(groups))
        return parts

    def _duplicates(self, groups: Sequence[Mapping[str, Entry]]) -> set[str]:
        """Return the shots that repeat an earlier one; only candidates are read whole."""
        filters = self._config.filters
        if filters.duplicate_distance_bits is None:
            return set()
        candidates = DuplicateCandidates(filters.duplicate_distance_bits)
        for group in groups:
            for row in self._analyzed.read(group, [FINGERPRINTS]):
                shots = row["shots"] or []
                candidates.add(row["source_id"], [shot["fingerprint"] for shot in shots])
        found = candidates.found()
        videos = (
            {**video, "shots": [video["shots"][i] for i in sorted(found[video["source_id"]])]}
            for group in groups
            for video in self._measured({i: e for i, e in group.items() if i in found})
        )
        return find_duplicates(shot_prints(videos, filters), filters)

    def _measured(self, group: Mapping[str, Entry]) -> Iterator[Mapping[str, Any]]:
        """Yield analyzed videos, with aesthetic scores if a head is configured."""
        for video in self._analyzed.read(group):
            yield video if self._aesthetics is None else self._aesthetics.scored(video)


def grouped(videos: Mapping[str, Entry]) -> list[dict[str, Entry]]:
    """Group the videos by part of the tables, in order; a group fits in memory at once."""
    groups: list[dict[str, Entry]] = []
    num_shots = 0
    for source_id, entry in videos.items():
        num_shots += entry.values["num_shots"] or 0
        full = not groups or num_shots > SHOTS_PER_PART or len(groups[-1]) >= VIDEOS_PER_PART
        if full:
            groups.append({})
            num_shots = entry.values["num_shots"] or 0
        groups[-1][source_id] = entry
    return groups
