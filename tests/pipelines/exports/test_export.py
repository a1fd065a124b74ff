"""Exports of a published snapshot: what stands in them, that they are whole, and how they load."""

import io
import json
import re
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fw_model.errors import ConfigError, DataError, InputError
from fw_model.schemas.curated import CURATED_TABLES
from pipelines import export
from pipelines.curation.analysis.keyframes import encode_jpeg
from pipelines.curation.ids import keyframe_uri, shot_file_uri
from pipelines.curation.ledger.tables import publish, write_part
from pipelines.export import ExportSummary, run_export
from pipelines.storage.store import Store
from tests.pipelines.curation.footage import scenery

PAGE = Path(__file__).resolve().parents[3] / "docs" / "curation.md"
SHOTS_OF = {"A": 2, "B": 1, "C": 1, "D": 3}
REJECTED = "C"
IN_PACKS = "CD"


def keyframe(store, name):
    data = encode_jpeg(scenery(ord(name[0]) + int(name[1])), 88)
    sha256 = (name * 32)[:64]
    about = {"frame": 5, "time_s": 0.5, "sha256": sha256, "width": 96, "height": 64}
    if name[0] in IN_PACKS:
        store.write(f"media/{name}.pack", b"before" + data + b"after")
        return about | {"uri": f"media/{name}.pack#6,{len(data)}"}
    store.write(keyframe_uri(sha256), data)  # as version 0.1 did
    return about | {"uri": keyframe_uri(sha256)}


def shot_row(store, scene, index):
    name = f"{scene}{index}"
    row = {
        "shot_id": name,
        "video_id": f"video{scene}",
        "uri": f"/films/{scene}.mp4",
        "index": index,
        "start_frame": 10 * index,
        "end_frame": 10 * index + 10,
        "content_start_frame": 10 * index + 1,
        "content_end_frame": 10 * index + 10,
        "start_s": float(index),
        "end_s": index + 1.0,
        "keyframes": [keyframe(store, name)],
        "embedding": [float(index == 0), float(index != 0), 0.0, 0.0],
        "scene_id": scene,
    }
    if name == "A1":
        store.write(shot_file_uri("c" * 64), b"clip")
        row |= {"clip_uri": shot_file_uri("c" * 64), "clip_mode": "copy"}
    return row


def caption_row(scene, shots):
    said = [
        {
            "shot_id": shot["shot_id"],
            "text": f"shot {shot['shot_id']}",
            "entity_ids": ["e1"],
            "framing": "wide",
        }
        for shot in shots
    ]
    status = "rejected" if scene == REJECTED else "captioned"
    entities = [{"id": "e1", "name": "bear", "attributes": "brown", "kind": "animal"}]
    return {"scene_id": scene, "status": status, "entities": entities, "shots": said}


@pytest.fixture
def curated(tmp_path):
    """Four scenes, one of them rejected, in tables of two parts."""
    store = Store(str(tmp_path / "curated"))
    parts = []
    for place, scenes in enumerate(("AB", "CD")):
        rows = {table: [] for table in CURATED_TABLES}
        for scene in scenes:
            shots = [shot_row(store, scene, i) for i in range(SHOTS_OF[scene])]
            ids = [shot["shot_id"] for shot in shots]
            rows["shots"] += [*shots, shots[0] | {"shot_id": f"{scene}x", "drop_reason": "dark"}]
            rows["scenes"].append({"scene_id": scene, "shot_ids": ids, "num_shots": len(ids)})
            rows["captions"].append(caption_row(scene, shots))
            rows["videos"].append({"video_id": f"video{scene}"})
        parts += [write_part(store, table, place, rows[table], "run") for table in CURATED_TABLES]
    publish(store, parts, "run", {})
    return store.uri


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_parquet_holds_a_row_a_shot_and_a_row_a_scene(curated, tmp_path):
    assert run_export(curated, str(tmp_path / "out"), "parquet") == ExportSummary(3, 6)
    shots = pq.read_table(tmp_path / "out" / "shots").to_pylist()
    assert [s["shot_id"] for s in shots] == ["A0", "A1", "B0", "D0", "D1", "D2"]
    second = shots[1]
    assert (second["scene_id"], second["position"], second["text"]) == ("A", 1, "shot A1")
    assert (second["content_start_frame"], second["content_end_frame"]) == (11, 20)
    assert second["entities"] == [
        {"id": "e1", "name": "bear", "attributes": "brown", "kind": "animal"}
    ]
    assert second["embedding"] == [0.0, 1.0, 0.0, 0.0]
    assert Path(second["clip_uri"]).read_bytes() == b"clip"
    assert Image.open(second["keyframes"][0]["uri"]).size == (96, 64)
    assert (second["keyframes"][0]["offset"], second["keyframes"][0]["length"]) == (None, None)
    packed = shots[-1]["keyframes"][0]
    jpeg = Path(packed["uri"]).read_bytes()[packed["offset"] :][: packed["length"]]
    assert Image.open(io.BytesIO(jpeg)).size == (96, 64)
    assert shots[0]["clip_uri"] is None
    scenes = pq.read_table(tmp_path / "out" / "scenes").to_pylist()
    assert [(s["scene_id"], s["num_shots"]) for s in scenes] == [("A", 2), ("B", 1), ("D", 3)]
    assert scenes[2]["texts"] == ["shot D0", "shot D1", "shot D2"]
    assert json.loads((tmp_path / "out" / "export.json").read_text())["complete"] is True


def samples_of(folder):
    found = []
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            found.append({m.name: tar.extractfile(m).read() for m in tar})
    return found


def test_a_webdataset_is_shards_of_bounded_size_with_a_sample_a_scene(curated, tmp_path):
    run_export(curated, str(tmp_path / "all"), "webdataset")
    (shard,) = samples_of(tmp_path / "all")
    assert list(shard) == [
        *("A.json", "A.s000.k0.jpg", "A.s001.k0.jpg", "A.s001.mp4", "B.json", "B.s000.k0.jpg"),
        *("D.json", "D.s000.k0.jpg", "D.s001.k0.jpg", "D.s002.k0.jpg"),
    ]
    assert shard["A.s001.mp4"] == b"clip"
    assert Image.open(io.BytesIO(shard["D.s002.k0.jpg"])).size == (96, 64)
    scene = json.loads(shard["A.json"])
    assert [(s["text"], s["clip"]) for s in scene["shots"]] == [
        ("shot A0", None),
        ("shot A1", "A.s001.mp4"),
    ]
    assert scene["shots"][0]["keyframes"][0]["file"] == "A.s000.k0.jpg"
    run_export(curated, str(tmp_path / "small"), "webdataset", max_shard_bytes=20_000)
    shards = samples_of(tmp_path / "small")
    assert [sorted({name[0] for name in shard}) for shard in shards] == [["A", "B"], ["D"]]
    assert shards[0] | shards[1] == shard
    run_export(curated, str(tmp_path / "least"), "webdataset", max_shard_bytes=1)
    assert len(samples_of(tmp_path / "least")) == 3


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("num_writes", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("form", ["parquet", "webdataset"])
def test_an_interrupted_export_is_finished_by_the_same_command(
    curated, tmp_path, monkeypatch, form, num_writes
):
    settings = {"max_shard_bytes": 1}
    run_export(curated, str(tmp_path / "whole"), form, **settings)
    written = []
    with monkeypatch.context() as patched:
        for name in ("write", "write_file"):

            def write(self, key, data, *, inner=getattr(Store, name)):
                if len(written) == num_writes:
                    raise Killed
                written.append(key)
                inner(self, key, data)

            patched.setattr(Store, name, write)
        with pytest.raises(Killed):
            run_export(curated, str(tmp_path / "out"), form, **settings)
    before = {k: v for k, v in bytes_of(tmp_path / "out").items() if k != "export.json"}
    run_export(curated, str(tmp_path / "out"), form, **settings)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    assert before.items() <= bytes_of(tmp_path / "whole").items()


def test_an_export_never_mixes_with_other_files_or_other_tables(curated, tmp_path):
    with pytest.raises(InputError, match="not an export"):
        run_export(curated, curated, "parquet")
    run_export(curated, str(tmp_path / "out"), "parquet")
    assert run_export(curated, str(tmp_path / "out"), "parquet") == ExportSummary(3, 6)
    with pytest.raises(InputError, match="holds a parquet export"):
        run_export(curated, str(tmp_path / "out"), "webdataset")
    store = Store(curated)
    parts = [write_part(store, table, 0, [], "next") for table in CURATED_TABLES]
    publish(store, parts, "next", {})
    with pytest.raises(InputError, match="of other tables"):
        run_export(curated, str(tmp_path / "out"), "parquet")
    with pytest.raises(DataError, match="no captioned scene"):
        run_export(curated, str(tmp_path / "none"), "parquet")


def test_mistakes_are_told_before_anything_is_written(curated, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="parquet, webdataset, lance"):
        run_export(curated, str(tmp_path / "out"), "csv")
    with pytest.raises(DataError, match="filmweaver curate"):
        run_export(str(tmp_path / "nothing"), str(tmp_path / "out"), "parquet")
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(ConfigError, match=r"pylance: pip install 'filmweaver\[lance\]'"):
        run_export(curated, str(tmp_path / "out"), "lance")
    assert not (tmp_path / "out").exists()


def test_lance_holds_pictures_and_finds_shots_by_vector(curated, tmp_path):
    lance = pytest.importorskip("lance")
    run_export(curated, str(tmp_path / "out"), "lance")
    shots = lance.dataset(str(tmp_path / "out" / "shots.lance"))
    assert shots.count_rows() == 6
    search = {"column": "embedding", "q": np.array([1, 0, 0, 0], np.float32), "k": 3}
    near = shots.to_table(columns=["shot_id", "keyframe_jpegs"], nearest=search).to_pylist()
    assert {row["shot_id"] for row in near} == {"A0", "B0", "D0"}
    assert Image.open(io.BytesIO(near[0]["keyframe_jpegs"][0])).size == (96, 64)
    assert lance.dataset(str(tmp_path / "out" / "scenes.lance")).count_rows() == 3


@pytest.mark.parametrize("form", export.FORMATS)
def test_the_loader_in_the_handbook_reads_the_export(curated, tmp_path, monkeypatch, capsys, form):
    package = {"webdataset": "webdataset", "lance": "lance", "parquet": "pyarrow"}[form]
    pytest.importorskip(package)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (code,) = [block for block in blocks if f"exported/{form}/" in block]
    monkeypatch.chdir(tmp_path)
    run_export(curated, f"exported/{form}", form)
    exec(compile(code, f"{PAGE.name}: {form}", "exec"), {})
    said = capsys.readouterr().out
    expected = {"parquet": "shot D2", "webdataset": "shot D2 (64, 96, 3)", "lance": "shot A0 1"}
    assert expected[form] in said
