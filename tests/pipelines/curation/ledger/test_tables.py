"""Publishing: what the manifest lists is one whole run, wherever a run was killed."""

import hashlib
import json

import pytest

from fw_model.errors import DataError
from fw_model.schemas.curated import CURATED_TABLES
from fw_model.schemas.curated_rows import SceneRow
from pipelines.curation.assembly.phase import grouped
from pipelines.curation.ledger.ledger import Entry
from pipelines.curation.ledger.tables import (
    check_unique,
    first_places,
    publish,
    published_files,
    read_published,
    write_part,
)
from pipelines.storage.store import Store


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def stage(store, run_id, mean_similarity):
    """Stage every table; the scenes hold one row that says which run made it."""
    rows = {"scenes": [{"scene_id": "s", "mean_similarity": mean_similarity}]}
    return [write_part(store, table, 0, rows.get(table, []), run_id) for table in CURATED_TABLES]


def scenes(store):
    return [r["mean_similarity"] for r in read_published(store, SceneRow, ["mean_similarity"])]


def test_a_finished_run_leaves_exactly_what_the_manifest_lists(store, tmp_path):
    publish(store, stage(store, "first", 0.5), "first", {"run_id": "first"})
    publish(store, stage(store, "second", 0.25), "second", {"run_id": "second"})
    listed = [key for table in CURATED_TABLES for key in published_files(store, table)]
    assert sorted(listed) == sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.parq*"))
    assert json.loads((tmp_path / "manifest.json").read_text())["run_id"] == "second"
    assert scenes(store) == [0.25]


def test_the_manifest_tells_what_every_file_holds(store, tmp_path):
    publish(store, stage(store, "first", 0.5), "first", {})
    files = json.loads((tmp_path / "manifest.json").read_text())["files"]
    assert len(files) == len(CURATED_TABLES)
    for file in files:
        data = (tmp_path / file["key"]).read_bytes()
        assert file["size_bytes"] == len(data)
        assert file["sha256"] == hashlib.sha256(data).hexdigest()


def test_a_part_holds_as_many_videos_as_make_a_good_file():
    def entries(*counts):
        return {str(i): Entry("k", {"num_shots": n}) for i, n in enumerate(counts)}

    long = grouped(entries(4_500, 4_000, 3_500, 20_000, None, 3))
    assert [list(group) for group in long] == [["0"], ["1", "2"], ["3"], ["4", "5"]]
    short = grouped(entries(*[0] * 20_000))
    assert [len(group) for group in short] == [8_000, 8_000, 4_000]
    assert grouped({}) == []


@pytest.mark.parametrize(("step", "read"), [("write", 0.5), ("delete", 0.25)])
def test_a_run_killed_while_it_publishes_leaves_no_row_twice(store, monkeypatch, step, read):
    def kill(*_arguments):
        raise Killed

    publish(store, stage(store, "first", 0.5), "first", {})
    parts = stage(store, "second", 0.25)
    with monkeypatch.context() as patched:
        patched.setattr(Store, step, kill)
        with pytest.raises(Killed):
            publish(store, parts, "second", {})
    assert scenes(store) == [read]
    publish(store, stage(store, "third", 0.25), "third", {})
    assert len(store.keys("scenes", ".parquet")) == 1
    assert store.keys("staging") == []


def test_a_folder_without_a_manifest_holds_no_tables(store):
    write_part(store, "scenes", 0, [], "run")
    with pytest.raises(DataError, match="holds no curated scenes"):
        published_files(store, "scenes")


def test_a_table_with_a_row_twice_is_never_published(store):
    parts = [write_part(store, "scenes", i, [{"scene_id": "s"}], "run") for i in range(2)]
    with pytest.raises(DataError, match="twice"):
        check_unique(store, parts)


def test_rows_are_read_by_id_from_the_places_that_are_named(store):
    rows = [[{"scene_id": "a"}, {"scene_id": "b"}], [{"scene_id": "c"}]]
    parts = [
        write_part(store, table, place, few if table == "scenes" else [], "run")
        for table in CURATED_TABLES
        for place, few in enumerate(rows)
    ]
    publish(store, parts, "run", {})

    def ids(**chosen):
        return [row["scene_id"] for row in read_published(store, SceneRow, ["scene_id"], **chosen)]

    assert ids() == ["a", "b", "c"]
    assert ids(ids=["c", "a"]) == ["a", "c"]
    assert ids(ids=[]) == []
    assert ids(ids=["c", "a"], places=[1]) == ["c"]
    assert first_places(store, 2) == first_places(store, 0) == [0]
    assert first_places(store, 3) == [0, 1]
