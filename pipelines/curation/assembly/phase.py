"""The assemble phase of curation: analyzed videos to the staged tables of videos, shots and scenes.

It handles numbers only, no images, so every run does it again, shard by shard. In memory are one
part of the tables and the provenance of the shard's published scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from fw_model.schemas.curated_rows import AnalyzedVideoRow, ProvenanceRow, SceneRow
from pipelines.curation.assembly.analyzed_shard import (
    NUMBERS_PER_SHARD,
    AnalyzedShard,
    AssemblyInput,
)
from pipelines.curation.assembly.assemble import TABLES, assemble_video
from pipelines.curation.assembly.duplicate_search import search_duplicates
from pipelines.curation.assembly.near_duplicates import Numbers
from pipelines.curation.config import CurationConfig
from pipelines.curation.ledger.compaction import compact
from pipelines.curation.ledger.ledger import Entry, Ledger, config_hash
from pipelines.curation.ledger.receipts import Provenance, code_version
from pipelines.curation.ledger.shards import Shard, shards_of
from pipelines.curation.ledger.tables import Draft, Part, manifest_files
from pipelines.curation.shard_tasks import ShardTasks
from pipelines.curation.spool import SourceSpool
from pipelines.storage.arrow_rows import iter_rows
from pipelines.storage.parallel import in_parallel
from pipelines.storage.store import Store

if TYPE_CHECKING:
    from pipelines.curation.assembly.aesthetic import ShotAesthetics

SHOTS_PER_PART = 8_000  # 32 to 64 MB, with their embeddings
VIDEOS_PER_PART = 8_000
PARTS_PER_SHARD = 10_000
MAX_UNSHARDED = 16  # files of a version without shards that every shard may read


@dataclass(frozen=True)
class AssemblePhase:
    """Filters, duplicates and scenes over all analyzed videos."""

    config: CurationConfig
    store: Store
    analyzed: Ledger[AnalyzedVideoRow]
    aesthetics: ShotAesthetics | None
    run_id: str
    on_shard: Callable[[int, int], None]  # called with the number of shards done and in all

    def run(self, sources: SourceSpool, num_shards: int, tasks: ShardTasks) -> list[Part]:
        """Stage the tables of the listed videos; return their parts, in order."""

        def shards() -> Iterator[tuple[Shard, pa.Table]]:
            for shard in shards_of(num_shards):
                yield shard, sources.shard(shard)

        given = tasks.put(AssemblyInput(self.config, self.analyzed, self.aesthetics))
        for _ in tasks.each(compact, ((self.analyzed, shard) for shard in shards_of(num_shards))):
            pass
        duplicates = search_duplicates(tasks, given, shards)
        provenance = self._scene_provenance()
        published = published_scenes(self.store, num_shards)
        work = (
            (given, shard, rows, provenance, published.get(shard, []), *duplicates)
            for shard, rows in shards()
        )
        parts: list[Part] = []
        for done, result in enumerate(tasks.each(assemble_shard, work), start=1):
            parts += tasks.get(result)
            self.on_shard(done, num_shards)
        return parts

    def _scene_provenance(self) -> Provenance:
        """Return what determines the scenes: the settings of the analysis, the filters and the
        clustering, and the code of this package."""
        settings = (self.analyzed.settings_hash, self.config.filters, self.config.scenes)
        return Provenance(config_hash(*settings), code_version("assembly"), self.run_id)


def published_scenes(store: Store, num_shards: int) -> dict[Shard, list[str]]:
    """Return the files of the published scenes table that may hold scenes of each shard."""
    files = [file for file in manifest_files(store) if file["table"] == "scenes"]
    unsharded = [file for file in files if not file.get("shard")]
    if num_shards > 1 and len(unsharded) > MAX_UNSHARDED:
        files = [file for file in files if file.get("shard")]
    by_shard: dict[Shard, list[str]] = {}
    for file in files:
        by_shard.setdefault(Shard.parse(file.get("shard") or ""), []).append(file["key"])
    counts = {shard.count for shard in by_shard if shard.count <= num_shards}
    return {
        shard: [key for count in counts for key in by_shard.get(shard.within(count), [])]
        for shard in shards_of(num_shards)
    }


def assemble_shard(
    given: AssemblyInput,
    shard: Shard,
    sources: pa.Table,
    provenance: Provenance,
    published: Sequence[str],
    *duplicates: Numbers,
) -> list[Part]:
    """Stage the tables of one shard; duplicates: the numbers of shots that repeat others."""
    store, videos = given.analyzed.store, AnalyzedShard(given, shard, sources)
    new_stamp = provenance.stamp()
    stamps = known_stamps(store, published, new_stamp)
    ends = [shard.index * NUMBERS_PER_SHARD, (shard.index + 1) * NUMBERS_PER_SHARD]
    own = [found[slice(*found.searchsorted(ends))] for found in duplicates]
    repeated = {number for found in own for number in found.tolist()}
    parts: list[Part] = []
    for place, group in enumerate(grouped(videos.entries)):
        drafts = {name: Draft(name) for name in TABLES}
        for first, video in videos.read(group):
            shot_ids = [shot["shot_id"] for shot in video["shots"]]
            rows = assemble_video(
                video,
                scores=given.scores(video),
                duplicates={s for number, s in enumerate(shot_ids, first) if number in repeated},
                filters=given.config.filters,
                scenes=given.config.scenes,
                stamp=lambda scene_id: stamps.get(scene_id, new_stamp),
            )
            for name, draft in drafts.items():
                draft.add(getattr(rows, name))
        place += shard.index * PARTS_PER_SHARD
        parts += [d.stage(store, place, provenance.run_id, shard) for d in drafts.values()]
    return parts


def known_stamps(
    store: Store, published: Sequence[str], new: ProvenanceRow
) -> dict[str, ProvenanceRow]:
    """Return the provenance of the finished scenes that this run would make the same way. They
    keep it, so that an unchanged run writes the same files."""
    stamps: dict[tuple[str, str], ProvenanceRow] = {}
    known: dict[str, ProvenanceRow] = {}
    columns = ["scene_id", *new]
    for table in in_parallel(lambda key: store.read_table(key, columns), published):
        for row in iter_rows(table, SceneRow):
            run = row["run_id"], row["created_at"]
            made_by = row["config_hash"], row["code_version"]
            if made_by == (new["config_hash"], new["code_version"]):
                same: ProvenanceRow = {**new, "run_id": run[0], "created_at": run[1]}
                known[row["scene_id"]] = stamps.setdefault(run, same)
    return known


def grouped(videos: Mapping[str, Entry]) -> list[dict[str, Entry]]:
    """Group the videos by part of the tables, in order; a group fits in memory at once."""
    groups: list[dict[str, Entry]] = []
    num_shots = 0
    for video_id, entry in videos.items():
        num_shots += entry.values["num_shots"] or 0
        full = not groups or num_shots > SHOTS_PER_PART or len(groups[-1]) >= VIDEOS_PER_PART
        if full:
            groups.append({})
            num_shots = entry.values["num_shots"] or 0
        groups[-1][video_id] = entry
    return groups
