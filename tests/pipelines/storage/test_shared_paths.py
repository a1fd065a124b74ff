"""A node must see the paths of a run as the driver does."""

from dataclasses import replace
from pathlib import Path

import pytest

from fw_model.errors import StorageError
from pipelines.storage import shared_paths as module
from pipelines.storage.shared_paths import MARKER, MAX_FILES, sample, shared_paths

pytestmark = pytest.mark.usefixtures("ray_cluster")


def elsewhere(shared):
    """The same paths, asked for on a node that is not the driver's."""
    return replace(shared, node_id="another node")


def test_a_shared_disk_passes_and_leaves_nothing(tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"film")
    (tmp_path / "model").mkdir()
    inputs = [
        ("source", str(tmp_path / "film.mp4")),
        ("model", str(tmp_path / "model")),
        ("source", "s3://films/a.mp4"),
        ("source", str(tmp_path / "missing.mp4")),  # whoever reads it reports that
    ]
    with shared_paths(inputs, str(tmp_path / "out")) as shared:
        elsewhere(shared).check()
        assert [path.role for path in shared.paths] == ["source", "model", "output"]
        assert (tmp_path / "out" / MARKER).is_file()
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("change", ["removed", "of another size", "with other names"])
def test_a_path_that_differs_is_named_with_both_nodes(tmp_path, change):
    film, folder = tmp_path / "film.mp4", tmp_path / "model"
    film.write_bytes(b"film")
    folder.mkdir()
    with shared_paths([("source", str(film)), ("model", str(folder))]) as shared:
        if change == "removed":
            film.unlink()
        elif change == "of another size":
            film.write_bytes(b"another film")
        else:
            (folder / "weights").touch()
        named = str(folder if change == "with other names" else film)
        with pytest.raises(StorageError) as raised:
            elsewhere(shared).check()
        assert named in str(raised.value) and shared.host in str(raised.value)
        shared.check()  # the driver's own node has nothing to compare


def test_an_output_of_the_same_name_on_another_disk_is_not_the_output(tmp_path):
    output = tmp_path / "out"
    with shared_paths([], str(output)) as shared:
        (output / MARKER).write_text("of another run")
        with pytest.raises(StorageError, match=f"does not see the output {output} "):
            elsewhere(shared).check()


def test_a_bucket_needs_no_marker():
    with shared_paths([("source", "s3://films/a.mp4")], "s3://films/out") as shared:
        assert shared.paths == ()


def test_an_output_that_cannot_be_written_is_refused(tmp_path):
    Path(tmp_path / "file").touch()
    with (
        pytest.raises(StorageError, match="Cannot write to"),
        shared_paths([], str(tmp_path / "file" / "out")),
    ):
        pass


def test_a_node_that_does_not_see_a_path_ends_the_run_before_work_starts(tmp_path, monkeypatch):
    """The only node stands for another: it says what a node without the file says."""
    (tmp_path / "film.mp4").write_bytes(b"film")
    monkeypatch.setattr(module, "_node_id", lambda: "the driver's node")
    monkeypatch.setattr(module, "_host", lambda: "node-driver (10.0.0.1)")
    monkeypatch.setattr(module, "_state", lambda path: 3)
    with (
        pytest.raises(StorageError, match=r"of node node-driver"),
        shared_paths([("source", str(tmp_path / "film.mp4"))]),
    ):
        pytest.fail("work started")


def test_a_sample_is_spread_over_a_long_list():
    uris = [f"/films/{i:05d}.mp4" for i in range(1000)]
    chosen = sample("source", uris)
    assert len(chosen) == MAX_FILES
    assert chosen[0] == ("source", uris[0]) and chosen[-1][1] > uris[900]
    assert sample("source", uris[:3]) == [("source", uri) for uri in uris[:3]]
