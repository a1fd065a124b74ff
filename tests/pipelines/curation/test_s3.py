"""Sources and outputs in a bucket, on a real S3-speaking server; also one that is often away."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs as arrow_fs

from fw_model.errors import InputError, StorageError
from fw_model.schemas.curated import ANALYZED_VIDEOS, CURATED_TABLES
from fw_model.schemas.curated_rows import SceneRow, ShotRow, VideoRow
from pipelines.curation.analysis.operators import PENDING_VIDEO, AnalyzeVideos
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.config import CurationConfig
from pipelines.curation.ledger.ledger import Ledger
from pipelines.curation.ledger.receipts import Provenance
from pipelines.curation.ledger.shards import Shard
from pipelines.curation.ledger.tables import publish, published_ids, read_published, write_part
from pipelines.curation.sources import Source, list_sources, sources_of
from pipelines.export import run_export
from pipelines.storage import filesystems as locations
from pipelines.storage import retry
from pipelines.storage.store import Store, file_info, local_copy
from tests.pipelines.curation.footage import write_film

ROWS = pa.schema([("id", pa.string()), ("attempts", pa.int32())])


def put(bucket, key, data):
    bucket.client().put_object(Bucket="films", Key=key, Body=data)


def keys_of(bucket):
    found = bucket.client().list_objects_v2(Bucket="films").get("Contents", [])
    return [o["Key"] for o in found if not o["Key"].endswith("/")]


def listed_in(uri, **settings):
    spool = list_sources(CurationConfig(source=uri, **settings))
    return sorted(sources_of(spool.shard(Shard())), key=lambda source: source.uri)


def test_a_store_in_a_bucket_keeps_moves_lists_and_forgets(bucket, tmp_path):
    store = Store("s3://films/out/")
    store.write("a/one", b"1")
    store.write_once("a/one", b"other")
    (tmp_path / "big").write_bytes(bytes(range(256)) * 50_000)
    store.write_file("a/big", tmp_path / "big")
    assert store.read("a/big") == (tmp_path / "big").read_bytes()
    store.move("a/one", "b/one")
    assert (store.read("b/one"), store.exists("a/one")) == (b"1", False)
    assert store.keys("a") == ["a/big"]
    assert store.keys("nowhere") == []
    store.delete("b/one")
    store.delete("b/one")
    store.delete_folder("a")
    store.delete_folder("a")
    assert keys_of(bucket) == []
    assert store.address("b/one") == "s3://films/out/b/one"
    assert pickle.loads(pickle.dumps(store)).address("x") == store.address("x")


def test_a_small_object_is_one_request(bucket):
    store = Store("s3://films/out")
    before = bucket.num_requests
    store.write("row", b"x" * 1000)
    assert bucket.num_requests == before + 1


def test_a_ledger_and_tables_in_a_bucket_are_found_again(bucket):
    store = Store("s3://films/out")
    Ledger(store, "stage", "abc", ROWS, "id").commit([{"id": "a", "attempts": 1}])
    assert set(Ledger(store, "stage", "abc", ROWS, "id").entries(())) == {"a"}
    for run_id in ("first", "second"):
        rows = {"scenes": [{"scene_id": run_id}]}
        parts = [write_part(store, t, 0, rows.get(t, []), run_id) for t in CURATED_TABLES]
        publish(store, parts, run_id, {})
    assert read_published(store, SceneRow, ["scene_id"]) == [{"scene_id": "second"}]
    assert len(store.keys("scenes", ".parquet")) == 1
    assert store.keys("staging") == []


def test_a_folder_of_a_bucket_is_listed_whatever_its_names(bucket):
    for name in ("b.mp4", "a#1.webm", "deep/my film 100%.MOV", "c?x=1.mp4", "notes.txt"):
        put(bucket, f"in/{name}", b"x")
    listed = listed_in("s3://films/in")
    uris = [source.uri for source in listed]
    names = ["a#1.webm", "b.mp4", "c?x=1.mp4", "deep/my film 100%.MOV"]
    assert uris == [f"s3://films/in/{name}" for name in names]
    assert all(source.size_bytes == 1 and source.modified for source in listed)
    with local_copy("s3://films/in/deep/my film 100%.MOV") as path:
        assert Path(path).read_bytes() == b"x"
    assert not Path(path).exists()


def parquet_of(uris):
    sink = io.BytesIO()
    pq.write_table(pa.table({"uri": pa.array(uris, pa.string())}), sink)
    return sink.getvalue()


@pytest.mark.parametrize("in_bucket", [True, False])
@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl", "parquet"])
def test_a_manifest_names_videos_anywhere(bucket, tmp_path, in_bucket, suffix):
    put(bucket, "in/a.mp4", b"aa")
    (tmp_path / "local.mp4").write_bytes(b"l")
    uris = ["s3://films/in/a.mp4", str(tmp_path / "local.mp4"), "s3://films/in/gone.mp4"]
    data = {
        "txt": "\n".join(["# all of them", *uris]).encode(),
        "csv": "\n".join(["uri,title", *(f"{uri},t" for uri in uris)]).encode(),
        "jsonl": "\n".join(f'{{"uri": "{uri}"}}' for uri in uris).encode(),
        "parquet": parquet_of(uris),
    }[suffix]
    put(bucket, f"lists/list.{suffix}", data)
    (tmp_path / f"list.{suffix}").write_bytes(data)
    folder = "s3://films/lists" if in_bucket else str(tmp_path)
    found = {source.uri: source.size_bytes for source in listed_in(f"{folder}/list.{suffix}")}
    assert found == dict(zip(uris, (2, 1, -1), strict=True))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_manifest_with_sizes_needs_no_lookup(bucket, suffix):
    sink = io.BytesIO()
    columns = {"uri": ["s3://films/in/gone.mp4"], "size_bytes": [5], "modified": ["7"]}
    pq.write_table(pa.table(columns), sink)
    data = {
        "csv": b"uri,size_bytes,modified\ns3://films/in/gone.mp4,5,7\n",
        "jsonl": b'{"uri": "s3://films/in/gone.mp4", "size_bytes": 5, "modified": 7}\n',
        "parquet": sink.getvalue(),
    }[suffix]
    put(bucket, f"lists/list.{suffix}", data)
    assert listed_in(f"s3://films/lists/list.{suffix}") == [
        Source("s3://films/in/gone.mp4", 5, "7")
    ]


def test_a_folder_with_many_folders_is_listed_whole(bucket):
    names = [f"{top}/{deep}/{n}.mp4" for top in "ab" for deep in range(10) for n in range(2)]
    for name in [*names, "c.mp4"]:
        put(bucket, f"in/{name}", b"x")
    found = [source.uri.removeprefix("s3://films/in/") for source in listed_in("s3://films/in")]
    assert found == sorted([*names, "c.mp4"])
    assert len(listed_in("s3://films/in", recursive=False)) == 1
    first = [source.uri for source in listed_in("s3://films/in", limit=3)]
    assert first == [f"s3://films/in/{name}" for name in sorted(names)[:3]]


def test_many_keys_of_one_object_are_two_requests(bucket):
    store = Store("s3://films/out")
    store.write("a.pack", bytes(range(200)))
    before = bucket.num_requests
    assert store.read_many(["a.pack#10,2", "a.pack#0,1", "a.pack#199,1"]) == [
        bytes([10, 11]), b"\0", bytes([199])
    ]  # fmt: skip
    assert bucket.num_requests == before + 2
    assert store.read_if_there("gone") is None
    assert bucket.num_requests == before + 3


def test_a_small_table_is_two_requests(bucket):
    store = Store("s3://films/out")
    store.write_table("t.parquet", pa.table({"a": range(1000), "b": ["x"] * 1000}))
    before = bucket.num_requests
    assert store.read_table("t.parquet", ["a"]).num_rows == 1000
    assert bucket.num_requests == before + 2
    assert store.find_table("gone.parquet", ["a"]) is None
    assert bucket.num_requests == before + 3


def test_an_entry_without_an_address_stands_beside_its_manifest(bucket):
    put(bucket, "in/a.mp4", b"aa")
    put(bucket, "in/list.txt", b"a.mp4\n")
    assert [source.uri for source in listed_in("s3://films/in/list.txt")] == ["s3://films/in/a.mp4"]


def test_a_row_without_an_address_is_refused(bucket):
    put(bucket, "list.parquet", parquet_of(["s3://films/in/a.mp4", None]))
    with pytest.raises(InputError, match=r"Row 2 .* has no uri"):
        listed_in("s3://films/list.parquet")


def test_options_of_an_address_reach_its_neighbours(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    options = f"?endpoint_override={bucket.url.removeprefix('http://')}&scheme=http"
    put(bucket, "in/a.mp4", b"aa")
    (source,) = listed_in(f"s3://films/in{options}")
    assert source.uri == f"s3://films/in/a.mp4{options}"
    assert file_info(source.uri).size == 2
    assert Store(f"s3://films/out{options}").address("x") == f"s3://films/out/x{options}"


def test_gs_and_s3_name_buckets_and_others_are_refused_by_name(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    found, path = locations.filesystem("gs://anonymous@films/in/a b.mp4")
    assert isinstance(found, arrow_fs.GcsFileSystem)
    assert path == "films/in/a b.mp4"
    assert locations.neighbour("gs://anonymous@films/in", "films/x") == "gs://anonymous@films/x"
    with pytest.raises(StorageError, match="nowhere"):
        Store("nowhere://films/in")
    with pytest.raises(StorageError, match="does not name a bucket"):
        Store("s3:///in")
    with pytest.raises(StorageError, match="contains a secret") as told:
        Store("s3://me:hush@films/in")
    assert "hush" not in str(told.value)


def test_a_store_that_is_often_away_loses_and_doubles_nothing(bucket):
    bucket.share = 0.2
    store = Store("s3://films/out")
    keys = [f"media/{i:02}" for i in range(12)]
    for key in keys:
        store.write_once(key, key.encode())
    for key in keys[:6]:
        store.move(key, key.replace("media", "moved"))
    assert [store.read(key) for key in store.keys("moved")] == [k.encode() for k in keys[:6]]
    assert store.keys("media") == keys[6:]
    assert bucket.num_refused >= 10


def test_a_long_video_is_fetched_block_by_block_past_refusals(bucket, monkeypatch):
    monkeypatch.setattr("pipelines.storage.store.BLOCK_BYTES", 1000)
    content = bytes(range(256)) * 100
    put(bucket, "in/a.mp4", content)
    bucket.share = 0.3
    with local_copy("s3://films/in/a.mp4") as path:
        assert Path(path).read_bytes() == content
    assert bucket.num_refused >= 3


def test_what_stays_refused_is_an_error_that_names_the_key(bucket, monkeypatch):
    monkeypatch.setattr(retry, "ATTEMPTS", 3)
    store = Store("s3://films/out")
    bucket.refused = lambda method, path: path == "/films/out/bad"
    before = bucket.num_requests
    for action in (lambda: store.write("bad", b"1"), lambda: store.read("bad")):
        with pytest.raises(StorageError, match=r"s3://films/out/bad: .*SLOW_DOWN|503"):
            action()
    assert bucket.num_requests == before + 2 * 3
    store.write("good", b"1")


def test_what_is_not_there_is_not_asked_for_again(bucket):
    store = Store("s3://films/out")
    before = bucket.num_requests
    with pytest.raises(StorageError, match="s3://films/out/gone"):
        store.read("gone")
    assert bucket.num_requests == before + 1
    with pytest.raises(StorageError, match="NO_SUCH_BUCKET"):
        Store("s3://elsewhere/out").write("x", b"1")
    assert bucket.num_requests == before + 2


@pytest.mark.parametrize(
    ("text", "passing"),
    [
        ("AWS Error SLOW_DOWN during PutObject operation", True),
        ("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation", True),
        ("AWS Error UNKNOWN (HTTP status 429) during HeadObject operation", True),
        ("AWS Error NETWORK_CONNECTION during GetObject operation: reset by peer", True),
        ("AWS Error UNKNOWN (HTTP status 400) during HeadObject operation", False),
        ("AWS Error ACCESS_DENIED during HeadObject operation", False),
        ("google::cloud::Status(PERMISSION_DENIED: no access)", False),
    ],
)
def test_errors_of_a_store_pass_or_last(text, passing):
    assert retry.is_temporary(OSError(text)) is passing


def test_errors_of_a_disk_last():
    assert not retry.is_temporary(OSError(28, "No space left on device"))


def test_only_a_video_that_is_back_and_is_there_is_tried_again_unasked():
    here, gone = Source("s3://films/a.mp4", 5, "1"), Source("s3://films/b.mp4", -1, "")
    assert here.is_back("source_unavailable")
    assert not here.is_back("unreadable")
    assert not gone.is_back("source_unavailable")


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.1])
def test_a_whole_curation_lives_in_a_bucket_even_one_that_is_often_away(bucket, tmp_path, share):
    for name, seeds in (("a", [1, 2]), ("b", [3]), ("c", [4, 5])):
        write_film(tmp_path / f"{name}.mp4", seeds)
        put(bucket, f"in/{name}.mp4", (tmp_path / f"{name}.mp4").read_bytes())
    put(bucket, "in/text.mp4", b"no video")
    bucket.share = share
    script = Path(__file__).with_name("curate_once.py")
    project = str(Path(__file__).resolve().parents[3])
    subprocess.run(
        [sys.executable, str(script), "s3://films/in", "s3://films/out"],
        env=os.environ | bucket.environment() | {"PYTHONPATH": project, "RAY_ADDRESS": ""},
        check=True,
        timeout=900,
    )
    assert bool(bucket.num_refused) == bool(share)
    bucket.share = 0.0
    store = Store("s3://films/out")
    videos = read_published(store, VideoRow, ["uri", "status", "reason"])
    assert sorted((v["uri"], v["status"], v["reason"]) for v in videos) == [
        ("s3://films/in/a.mp4", "kept", None),
        ("s3://films/in/b.mp4", "kept", None),
        ("s3://films/in/c.mp4", "kept", None),
        ("s3://films/in/text.mp4", "quarantined", "unreadable"),
    ]
    for table in CURATED_TABLES:
        ids = list(published_ids(store, table))
        assert len(ids) == len(set(ids)) > 0
    shots = read_published(store, ShotRow, ["keyframes"])
    assert len(shots) == 5
    for keyframe in (keyframe for shot in shots for keyframe in shot["keyframes"]):
        assert hashlib.sha256(store.read(keyframe["uri"])).hexdigest() == keyframe["sha256"]
    assert store.exists("report.html")
    assert store.keys("staging") == []


def test_a_video_that_cannot_be_fetched_is_away_and_not_unreadable(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    content = write_film(tmp_path / "a.mp4", [1]).read_bytes()
    put(bucket, "in/a.mp4", content)
    (source,) = listed_in("s3://films/in/a.mp4")
    store, config = Store("s3://films/out"), CurationConfig()
    settings = AnalyzeSettings(config.decode, config.detector, config.keyframes, "hash")
    ledger = Ledger(store, "decoded", "abc", ANALYZED_VIDEOS, "source_id")
    analyze = AnalyzeVideos(settings, store, ledger, Provenance("c", "v", "r"))

    def analyzed(attempts):
        row = {"source_id": source.source_id, "uri": source.uri, "attempts": attempts}
        row |= {"size_bytes": source.size_bytes, "modified": source.modified}
        list(analyze(pa.Table.from_pylist([row], schema=PENDING_VIDEO)))
        (found,) = ledger.read(ledger.entries(()))
        return found

    bucket.refused = lambda method, path: method == "GET" and path == "/films/in/a.mp4"
    away = analyzed(1)
    assert (away["status"], away["reason"]) == ("quarantined", "source_unavailable")
    assert "GetObject" in away["detail"]
    assert source.is_back(away["reason"])
    bucket.refused = lambda method, path: False
    back = analyzed(2)
    assert (back["status"], back["reason"], back["num_frames"]) == ("kept", None, 18)


def test_an_export_goes_from_bucket_to_bucket(bucket):
    store = Store("s3://films/out")
    said = [{"shot_id": "a", "text": "a bear", "entity_ids": [], "framing": "wide"}]
    rows = {
        "shots": [{"shot_id": "a", "keyframes": []}],
        "scenes": [{"scene_id": "s", "shot_ids": ["a"]}],
        "captions": [{"scene_id": "s", "status": "captioned", "entities": [], "shots": said}],
    }
    parts = [write_part(store, t, 0, rows.get(t, []), "run") for t in CURATED_TABLES]
    publish(store, parts, "run", {})
    bucket.share = 0.1
    for form in ("parquet", "webdataset"):
        run_export("s3://films/out", f"s3://films/{form}", form)
    bucket.share = 0.0
    (row,) = Store("s3://films/parquet").read_table("shots/part-00000.parquet").to_pylist()
    assert (row["scene_id"], row["text"]) == ("s", "a bear")
    shard = Store("s3://films/webdataset").read("scenes-000000.tar")
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        assert tar.getnames() == ["s.json"]
