"""A run over several shards: its tasks run on Ray, and its tables are those of a run over one."""

import hashlib

import pytest

from fw_model.schemas.curated import CURATED_TABLES
from fw_model.schemas.curated_rows import CaptionRow, ShotRow
from pipelines.curation.config import FilterConfig, ResourceConfig
from pipelines.curation.ledger import compaction, shards
from pipelines.curation.ledger.tables import manifest_files, published_ids, read_published
from pipelines.storage.store import Store
from tests.pipelines.curation.footage import write_film
from tests.pipelines.curation.test_curate import curate

NUM_FILMS = 12


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Films of two shots; each third one repeats a shot of the film before."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(NUM_FILMS):
        repeated = number - 1 if number % 3 == 2 else number
        write_film(folder / f"{number:02d}.mp4", [100 + number, repeated])
    (folder / "text.mp4").write_text("no video")
    return folder


def tables(output):
    """The ids of each table, and for each shot why it is dropped."""
    store = Store(str(output))
    shots = read_published(store, ShotRow, ["shot_id", "drop_reason", "scene_id", "keyframes"])
    for keyframe in (keyframe for shot in shots for keyframe in shot["keyframes"]):
        assert hashlib.sha256(store.read(keyframe["uri"])).hexdigest() == keyframe["sha256"]
    found = {table: sorted(published_ids(store, table)) for table in CURATED_TABLES}
    texts = {
        shot["shot_id"]: shot["text"]
        for row in read_published(store, CaptionRow, ["shots"])
        for shot in row["shots"]
    }
    return found, {s["shot_id"]: (s["drop_reason"], s["scene_id"]) for s in shots}, texts


@pytest.mark.slow
def test_many_shards_give_the_tables_of_one(films, tmp_path, monkeypatch, ray_cluster):
    one = curate(films, tmp_path / "one")
    monkeypatch.setattr(shards, "VIDEOS_PER_SHARD", 2)
    many = curate(films, tmp_path / "many")
    assert tables(tmp_path / "many") == tables(tmp_path / "one")
    assert (many.videos_in, many.shots_dropped) == (one.videos_in, one.shots_dropped)
    assert many.shot_reasons["duplicate"] == NUM_FILMS // 3
    store = Store(str(tmp_path / "many"))
    assert 4 < len({file["shard"] for file in manifest_files(store)}) <= 8
    files = {(file["key"], file["sha256"]) for file in manifest_files(store)}
    again = curate(films, tmp_path / "many")
    assert (again.videos_analyzed_now, again.scenes_captioned_now) == (0, 0)
    assert {(file["key"], file["sha256"]) for file in manifest_files(store)} == files


@pytest.mark.slow
def test_an_output_that_grows_into_more_shards_recomputes_nothing(
    films, tmp_path, monkeypatch, ray_cluster
):
    monkeypatch.setattr(compaction, "MAX_SMALL_FILES", 1)
    monkeypatch.setattr(compaction, "MAX_SMALL_FILES_PER_SHARD", 1)
    few = ResourceConfig(scenes_per_commit=2)
    first = curate(films, tmp_path, resources=few, cut="copy")
    before = tables(tmp_path)
    monkeypatch.setattr(shards, "VIDEOS_PER_SHARD", 4)
    second = curate(films, tmp_path, resources=few, cut="copy")
    assert (second.videos_analyzed_now, second.scenes_captioned_now) == (0, 0)
    assert second.clips == first.clips
    assert tables(tmp_path) == before
    third = curate(
        films, tmp_path, filters=FilterConfig(duplicate_distance_bits=None), resources=few
    )
    assert (third.videos_analyzed_now, third.shots_dropped) == (0, 0)
