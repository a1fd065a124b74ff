"""An output whose videos are all decoded and embedded, without a video: what a run finds that was
killed before its end.

The rows are as large as real ones. Most shards are merged, as a run leaves them; in the last ones
rows are still committed a few at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fw_model.loading.config import ModelConfig
from fw_model.schemas.curated import ANALYZED_VIDEOS
from pipelines.curation.captioners.base import (
    CaptionContext,
    Entity,
    SceneCaption,
    SceneView,
    ShotCaption,
)
from pipelines.curation.config import CaptionerConfig, CurationConfig
from pipelines.curation.ledger.ledger import Ledger
from pipelines.curation.ledger.shards import Shard, num_shards, shards_of
from pipelines.curation.run_ledgers import RunLedgers
from pipelines.curation.sources import list_sources, sources_of
from pipelines.storage.arrow_rows import iter_rows
from pipelines.storage.parallel import in_parallel
from pipelines.storage.store import Store

UNMERGED_SHARDS = 2
ROWS_PER_COMMIT = 8
WIDTH = 512
FRAMES_PER_SHOT = 96


class FixedCaptioner:
    """Gives every shot the same text, so that a run is measured and not a model."""

    model = "fixed"
    prompt_version = "fixed-1"
    is_guess = False

    def __init__(self, context: CaptionContext) -> None:
        """Take the context that every captioner gets, and ignore it."""

    async def caption(self, scene: SceneView, complaints: Sequence[str] = ()) -> SceneCaption:
        shots = tuple(ShotCaption(s.shot_id, "A bear walks in.", ("e1",)) for s in scene.shots)
        return SceneCaption(shots, (Entity("e1", "bear"),))


def settings(source: str, output: str) -> CurationConfig:
    """Return the settings of the run that finds the rows."""
    captioner = CaptionerConfig(kind="benchmarks.finished_videos:FixedCaptioner")
    return CurationConfig(source=source, output=output, captioner=captioner)


def write_manifest(path: Path, number: int) -> None:
    """Write a list of videos that need not be looked up."""
    uris = [f"s3://films/in/{n:09d}.mp4" for n in range(number)]
    columns = {"uri": uris, "size_bytes": [1_000_000] * number, "modified": ["1"] * number}
    pq.write_table(pa.table(columns), path)


def write_finished(manifest: Path, output: str, shots_per_video: int) -> None:
    """Commit the rows of all videos of a manifest to both ledgers of the analysis."""
    config = settings(str(manifest), output)
    ledgers = RunLedgers.open(Store(output), config, ModelConfig())
    spool = list_sources(config)
    shards = shards_of(num_shards(len(spool)))

    def write(shard: Shard) -> None:
        sources = sorted(sources_of(spool.shard(shard)), key=lambda source: source.source_id)
        if not sources:
            return
        ids, uris = [s.source_id for s in sources], [s.uri for s in sources]
        rows = analyzed_rows(ids, uris, shots_per_video, seed=shard.index)
        is_merged = len(shards) == 1 or shard.index < len(shards) - UNMERGED_SHARDS
        for ledger in (ledgers.decoded, ledgers.analyzed):
            _commit(ledger, rows, shard, rows.num_rows if is_merged else ROWS_PER_COMMIT)

    for shard in shards:
        write(shard)


def _commit(ledger: Ledger, rows: pa.Table, shard: Shard, together: int) -> None:
    run = replace(ledger, run_id="killed")
    if together == rows.num_rows:
        ledger.write_merged(rows, shard)
        return
    few = [rows.slice(start, together) for start in range(0, rows.num_rows, together)]
    in_parallel(lambda table: run.commit(list(iter_rows(table)), shard), few)


def analyzed_rows(
    ids: Sequence[str], uris: Sequence[str], num_shots: int, *, seed: int
) -> pa.Table:
    """Return rows of videos whose shots look like one another, and like no other video's."""
    rng = np.random.default_rng(seed)
    template = pa.Table.from_pylist([_video(num_shots)], schema=ANALYZED_VIDEOS)
    table = template.take(pa.array(np.zeros(len(ids), np.int64)))
    for name, values in (("source_id", ids), ("video_id", ids), ("uri", uris)):
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    if not num_shots:
        return table
    shots = table["shots"].combine_chunks()
    total = len(ids) * num_shots
    prints = [rng.bytes(32) for _ in range(3 * total)]
    centres = np.repeat(rng.normal(size=(len(ids), WIDTH)), num_shots, axis=0)
    rows = centres + 0.3 * rng.normal(size=(total, WIDTH))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    new = {
        "shot_id": pa.array([f"{i}{n}" for i in ids for n in range(num_shots)]),
        "fingerprint": _lists(pa.array(prints, pa.binary()), 3),
        "embedding": _lists(pa.array(rows.ravel()), WIDTH),
    }
    fields = [shots.values.type.field(i) for i in range(shots.values.type.num_fields)]
    columns = [new.get(f.name, shots.values.field(f.name)) for f in fields]
    values = pa.StructArray.from_arrays(columns, fields=fields)
    lists = pa.ListArray.from_arrays(shots.offsets, values)
    place = table.column_names.index("shots")
    return table.set_column(place, ANALYZED_VIDEOS.field("shots"), lists).cast(ANALYZED_VIDEOS)


def _lists(values: pa.Array, length: int) -> pa.ListArray:
    offsets = np.arange(0, len(values) + 1, length, dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _video(num_shots: int) -> dict[str, object]:
    return {
        "status": "kept", "attempts": 1, "width": 1920, "height": 1080, "fps": 24.0,
        "num_frames": FRAMES_PER_SHOT * num_shots, "duration_s": 4.0 * num_shots,
        "num_shots": num_shots, "shots": [_shot(n) for n in range(num_shots)], "analyze_s": 0.5,
    }  # fmt: skip


def _shot(index: int) -> dict[str, object]:
    first, last = FRAMES_PER_SHOT * index, FRAMES_PER_SHOT * (index + 1)
    return {
        "shot_id": "", "index": index, "start_frame": first, "end_frame": last,
        "content_start_frame": first, "content_end_frame": last,
        "start_s": first / 24, "end_s": last / 24,
        "motion": 5.0, "luma": 100.0, "contrast": 40.0, "text_area": 0.0, "fingerprint": [],
        "colours": np.full(128, 128**-0.5, np.float32),
        "keyframes": [
            {"frame": frame, "time_s": frame / 24, "uri": f"media/ab/{'ab' * 32}.pack#{frame},9000",
             "sha256": "ab" * 32, "width": 512, "height": 288}
            for frame in range(first + 16, last, 32)
        ],
    }  # fmt: skip
