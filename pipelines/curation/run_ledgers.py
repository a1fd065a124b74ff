"""The four ledgers of a run: what is decoded, embedded, captioned and cut under its settings.

Knows how many shards they have, and keeps their files few and large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fw_model.loading.config import ModelConfig
from fw_model.loading.fingerprints import part_fingerprint
from fw_model.schemas.curated import ANALYZED_VIDEOS
from fw_model.schemas.curated_rows import AnalyzedVideoRow, CaptionRow, ShotFileRow
from pipelines.curation.analysis.analyze import ANALYZE_VERSION
from pipelines.curation.captioning.phase import caption_ledger
from pipelines.curation.config import CurationConfig
from pipelines.curation.ledger.compaction import compact, divide
from pipelines.curation.ledger.ledger import Ledger, RowT, config_hash
from pipelines.curation.ledger.shards import Shard, num_shards, shards_of
from pipelines.curation.shard_tasks import ShardTasks
from pipelines.curation.shot_files.phase import cut_ledger
from pipelines.storage.store import Store


@dataclass(frozen=True)
class RunLedgers:
    """The ledgers of a run, and the tasks that go through their shards."""

    decoded: Ledger[AnalyzedVideoRow]
    analyzed: Ledger[AnalyzedVideoRow]
    captioned: Ledger[CaptionRow]
    shot_files: Ledger[ShotFileRow]
    num_shards: int = 1
    tasks: ShardTasks = field(default_factory=lambda: ShardTasks(is_local=True))

    @classmethod
    def open(
        cls,
        store: Store,
        config: CurationConfig,
        model: ModelConfig,
        perception: Sequence[Mapping[str, str]] = (),
    ) -> RunLedgers:
        """Return the ledgers under these settings, for one shard. `perception` is what decides the
        results of perception, nothing if it is off."""
        limits = config.decode
        damage = [limits.max_pixels, limits.max_error_ratio, limits.max_missing_ratio]
        decoded = config_hash(ANALYZE_VERSION, damage, config.detector, config.keyframes)
        analyzed = config_hash(decoded, part_fingerprint(model, ("clip",)), *perception)
        return cls(
            Ledger(store, "decoded", decoded, ANALYZED_VIDEOS, "source_id"),
            Ledger(store, "analyzed", analyzed, ANALYZED_VIDEOS, "source_id"),
            caption_ledger(store, config, analyzed),
            cut_ledger(store, config, decoded),
        )

    @property
    def shards(self) -> list[Shard]:
        """All shards."""
        return shards_of(self.num_shards)

    def for_videos(self, num_videos: int, run_id: str) -> RunLedgers:
        """Return the ledgers of a run, with as many shards as so many videos need, or earlier runs
        had.

        A single shard is handled in this process. Earlier rows are moved to the shard of their
        video, except shot files: their rows are small and do not name it.
        """
        ledgers: list[Ledger[Any]] = [self.decoded, self.analyzed, self.captioned, self.shot_files]
        earlier = {count for ledger in ledgers for count in ledger.with_shards().counts}
        count = num_shards(num_videos, earlier)
        wide = replace(self, num_shards=count, tasks=ShardTasks(is_local=count == 1))
        return replace(
            wide,
            decoded=wide._divided(self.decoded, run_id),
            analyzed=wide._divided(self.analyzed, run_id),
            captioned=wide._divided(self.captioned, run_id),
            shot_files=self.shot_files.with_shards(count, run_id),
        )

    def _divided(self, ledger: Ledger[RowT], run_id: str) -> Ledger[RowT]:
        keys = ledger.with_shards(self.num_shards).files_of_fewer_shards(self.num_shards)
        for result in self.tasks.each(divide, ((ledger, key, self.num_shards) for key in keys)):
            self.tasks.get(result)
        return ledger.with_shards(self.num_shards, run_id)

    def merge_analyzed(self, shard: Shard) -> list[Any]:
        """Start to merge the small files of an analyzed shard; return results of `tasks`.

        A single shard is merged later, because it would keep the analysis waiting.
        """
        if self.tasks.is_local:
            return []
        ledgers = (self.decoded, self.analyzed)
        return [self.tasks.submit(compact, ledger, shard, cpus=0.0) for ledger in ledgers]

    def merge(self) -> None:
        """Merge the small files of all ledgers; assembly has done so with `analyzed`."""
        ledgers: list[Ledger[Any]] = [self.decoded, self.captioned, self.shot_files]
        work = ((ledger, shard) for ledger in ledgers for shard in self.shards)
        for result in self.tasks.each(compact, work):
            self.tasks.get(result)
