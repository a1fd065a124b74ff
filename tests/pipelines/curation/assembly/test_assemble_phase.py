"""Assembly over one shard and over several: the same shots, scenes and duplicates."""

import numpy as np
import pyarrow as pa
import pytest

from fw_model.schemas.curated import ANALYZED_VIDEOS
from fw_model.schemas.curated_rows import SceneRow, ShotRow
from pipelines.curation.assembly import phase as phase_module
from pipelines.curation.assembly.phase import AssemblePhase
from pipelines.curation.config import CurationConfig, SceneConfig
from pipelines.curation.ledger.ledger import Ledger
from pipelines.curation.ledger.shards import shard_of
from pipelines.curation.ledger.tables import CURATED_TABLES, publish, read_published, write_part
from pipelines.curation.shard_tasks import ShardTasks
from pipelines.curation.sources import Source
from pipelines.curation.spool import SourceSpool
from pipelines.storage.store import Store

NUM_VIDEOS = 60


def shot(rng, video, index, fingerprint):
    row = rng.normal(size=16)
    return {
        "shot_id": f"{video}-{index}", "index": index, "start_frame": 48 * index,
        "end_frame": 48 * index + 48, "content_start_frame": 48 * index,
        "content_end_frame": 48 * index + 48, "start_s": 2.0 * index, "end_s": 2.0 * index + 2,
        "motion": 5.0, "luma": 100.0, "contrast": 40.0, "text_area": 0.0, "keyframes": [],
        "fingerprint": [] if fingerprint is None else [fingerprint],
        "embedding": None if fingerprint is None else (row / np.linalg.norm(row)).tolist(),
    }  # fmt: skip


@pytest.fixture
def videos():
    """Videos of three shots; some shots repeat an earlier one, with some bits changed."""
    rng = np.random.default_rng(0)
    made, known = [], []
    for number in range(NUM_VIDEOS):
        source = Source(f"s3://films/{number:03d}.mp4", 5, "1")
        shots = []
        for index in range(3):
            new = shot(rng, f"v{number}", index, None if rng.random() < 0.1 else rng.bytes(32))
            if known and rng.random() < 0.4 and new["fingerprint"]:
                first = known[rng.integers(len(known))]
                bits = int.from_bytes(first["fingerprint"][0])
                for bit in rng.choice(256, rng.integers(9), replace=False):
                    bits ^= 1 << int(bit)
                new |= {"fingerprint": [bits.to_bytes(32)], "embedding": first["embedding"]}
            shots.append(new)
            known += [new] if new["fingerprint"] else []
        row = {
            "source_id": source.source_id, "video_id": f"v{number}", "uri": source.uri,
            "status": "kept", "attempts": 1, "width": 640, "height": 360, "num_shots": 3,
            "shots": shots,
        }  # fmt: skip
        made.append((source, row))
    return made


def assembled(folder, videos, num_shards):
    store = Store(str(folder))
    ledger = Ledger(store, "analyzed", "abc", ANALYZED_VIDEOS, "source_id", (num_shards,))
    spool = SourceSpool()
    for source, row in videos:
        ledger.commit([row], shard_of(source.uri, num_shards))
        spool.add(pa.Table.from_pylist([vars(source)], schema=SourceSpool.SCHEMA))
    spool.close()
    config = CurationConfig(scenes=SceneConfig(similarity_threshold=-1.0))
    run = AssemblePhase(config, store, ledger, None, "run", lambda done, total: None)
    parts = run.run(spool, num_shards, ShardTasks(is_local=True))
    parts += [
        write_part(store, "captions", p.place, [], "run") for p in parts if p.table == "videos"
    ]
    publish(store, parts, "run", {})
    shots = read_published(store, ShotRow, ["shot_id", "drop_reason", "scene_id"])
    scenes = read_published(store, SceneRow, ["scene_id", "shot_ids"])
    reasons = {row["shot_id"]: (row["drop_reason"], row["scene_id"]) for row in shots}
    return reasons, {row["scene_id"]: row["shot_ids"] for row in scenes}, parts


def test_shards_have_the_duplicates_and_scenes_of_the_whole(tmp_path, videos, monkeypatch):
    monkeypatch.setattr(phase_module, "SHOTS_PER_PART", 30)
    whole = assembled(tmp_path / "one", videos, 1)
    parts = assembled(tmp_path / "many", videos, 8)
    assert parts[:2] == whole[:2]
    reasons, scenes, _ = whole
    assert len(reasons) == 3 * NUM_VIDEOS and len(scenes) > 30
    duplicates = {shot for shot, (reason, _) in reasons.items() if reason == "duplicate"}
    assert 20 < len(duplicates) < 100
    numbers = [int(shot[1:].partition("-")[0]) for shot in duplicates]
    assert min(numbers) < NUM_VIDEOS / 2  # the first by address is kept, wherever its shard is
    assert len({part.place for part in parts[2]}) == len(parts[2]) / len(CURATED_TABLES)
