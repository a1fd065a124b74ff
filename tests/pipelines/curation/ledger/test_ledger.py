import hashlib
import pickle

import numpy as np
import pyarrow as pa
import pytest

from fw_model.errors import InputError
from fw_model.schemas.curated import ANALYZED_VIDEOS
from pipelines.curation.analysis.operators import PENDING_VIDEO, AnalyzeVideos
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.config import CurationConfig, DetectorConfig
from pipelines.curation.ledger.compaction import compact
from pipelines.curation.ledger.ledger import Entry, Ledger, config_hash
from pipelines.curation.ledger.receipts import RECEIPT, Provenance
from pipelines.curation.ledger.shards import Shard, num_shards, shard_of
from pipelines.curation.sources import list_sources, sources_of
from pipelines.storage.store import Store
from tests.pipelines.curation.footage import write_film

SCHEMA = pa.schema([("id", pa.string()), ("attempts", pa.int32()), ("note", pa.string())])


def ledger(folder, settings="abc"):
    return Ledger(Store(str(folder)), "stage", settings, SCHEMA, "id")


def row(row_id, attempts=1, note=""):
    return {"id": row_id, "attempts": attempts, "note": note}


def test_what_was_committed_is_found_again(tmp_path):
    ledger(tmp_path).commit([row("a"), row("b", note="x")])
    entries = ledger(tmp_path).entries(["attempts"])
    assert set(entries) == {"a", "b"}
    assert list(ledger(tmp_path).read({"b": entries["b"]})) == [row("b", note="x")]


def test_a_file_named_after_a_row_is_found_by_that_row_alone(tmp_path):
    book = ledger(tmp_path)
    assert book.committed("a", 1, ["note"]) == []
    key = book.commit([row("a", note="x"), row("b")], named_after=0)
    found = [Entry(key, row("a", note="x")), Entry(key, row("b"))]
    assert book.committed("a", 1, ["note"]) == found
    assert book.committed("a", 2, ["note"]) == book.committed("b", 1, ["note"]) == []


def test_each_shard_has_its_own_files_and_sees_those_of_a_smaller_run(tmp_path):
    book = ledger(tmp_path).with_shards(4)
    book.commit([row("old")])  # of a run with one shard
    book.commit([row("half")], Shard(1, 2))
    for index in range(4):
        book.commit([row(f"r{index}")], Shard(index, 4))
    again = ledger(tmp_path).with_shards(4)
    assert again.counts == (1, 2, 4)
    assert set(again.entries((), Shard(0, 4))) == {"old", "r0"}
    assert set(again.entries((), Shard(3, 4))) == {"old", "half", "r3"}
    assert set(again.entries((), Shard(3, 4), ["r3", "r0"])) == {"r3"}
    assert len(again.entries(())) == 6


def test_a_video_belongs_to_one_shard_whatever_their_number():
    for uri in (f"s3://films/{i}.mp4" for i in range(100)):
        shards = [shard_of(uri, 2**bits) for bits in range(13)]
        assert all(0 <= shard.index < shard.count for shard in shards)
        assert all(shards[-1].within(shard.count) == shard for shard in shards)
        assert Shard.parse(f"ledger/decoded/{shards[-1].name}/x.parquet") == shards[-1]
    assert [num_shards(n) for n in (0, 4096, 4097, 100_000, 10**7)] == [1, 1, 2, 32, 4096]
    assert num_shards(5, [1, 64]) == 64


def test_a_column_within_a_column_is_read_alone(tmp_path):
    parts = pa.list_(pa.struct([("name", pa.string()), ("weight", pa.float32())]))
    deep = pa.schema([*SCHEMA, ("parts", parts)])
    book = Ledger(Store(str(tmp_path)), "stage", "abc", deep, "id")
    book.commit([row("a") | {"parts": [{"name": "x", "weight": 1.0}]}, row("b") | {"parts": []}])
    read = list(book.read(book.entries(()), ["parts.list.element.name"]))
    assert read == [
        {"id": "a", "attempts": 1, "parts": [{"name": "x"}]},
        {"id": "b", "attempts": 1, "parts": []},
    ]


def test_a_column_that_an_older_version_did_not_write_is_null(tmp_path):
    def of(*names):
        inner = pa.list_(pa.struct([pa.field(name, pa.int32()) for name in names]))
        columns = [("id", pa.string()), ("attempts", pa.int32()), ("shots", inner)]
        return Ledger(Store(str(tmp_path)), "stage", "abc", pa.schema(columns), "id")

    old, new = of("index"), of("index", "faces")
    old.commit([row("a") | {"shots": [{"index": 1}]}])
    (alone,) = new.read(new.entries(()))
    assert alone["shots"] == [{"index": 1, "faces": None}]
    new.commit([row("b") | {"shots": [{"index": 2, "faces": 3}]}])
    both = {r["id"]: r["shots"] for r in new.read(new.entries(()))}
    assert both == {"a": alone["shots"], "b": [{"index": 2, "faces": 3}]}


def test_the_same_rows_twice_are_one_file(tmp_path):
    keys = {ledger(tmp_path).commit([row("a"), row("b")]) for _ in range(2)}
    keys.add(ledger(tmp_path).commit([row("b"), row("a")]))
    assert len(keys) == 1


def test_of_several_rows_of_one_id_the_last_attempt_counts(tmp_path):
    ledger(tmp_path).commit([row("a", 1, "old"), row("b")])
    ledger(tmp_path).commit([row("a", 2, "new")])
    entries = ledger(tmp_path).entries(())
    assert [r["note"] for r in ledger(tmp_path).read(entries)] == ["new", ""]


def test_compaction_keeps_every_row_once_in_few_sorted_files(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.curation.ledger.compaction.MAX_SMALL_FILES_PER_SHARD", 4)
    monkeypatch.setattr("pipelines.curation.ledger.compaction.FULL_BYTES", 5 * 10_000)
    book, shard = ledger(tmp_path), Shard(2, 4)
    rows = {
        f"r{i}": row(f"r{i}", note=np.random.default_rng(i).bytes(5_010).hex()) for i in range(9)
    }
    for row_id in reversed(rows):
        book.commit([rows[row_id]], shard)
    book.commit([rows["r1"], rows["r2"]], shard)  # as if killed after an earlier merge
    book.commit([row("other")])
    compact(book, shard)
    keys = book.store.keys(book.folder_of(shard))
    assert len(keys) <= 4 and not any("run-" in key for key in keys)
    found = [book.store.read_table(key, ["id"])["id"].to_pylist() for key in keys]
    assert all(ids == sorted(set(ids)) for ids in found)
    entries = book.with_shards().entries((), shard)
    assert list(book.read({i: entries[i] for i in rows})) == list(rows.values())
    assert "other" in entries


@pytest.mark.parametrize("compresses", [False, True])
def test_compacted_files_are_as_large_as_they_should_be(tmp_path, monkeypatch, compresses):
    monkeypatch.setattr("pipelines.curation.ledger.compaction.MAX_SMALL_FILES", 4)
    monkeypatch.setattr("pipelines.curation.ledger.compaction.FULL_BYTES", 100_000)
    book = ledger(tmp_path)
    for i in range(200):
        half = np.random.default_rng(i).bytes(1_000).hex()
        book.commit([row(f"r{i:03d}", note=half if not compresses else half + "n" * 8_000)])
    compact(book, Shard())
    sizes = sorted(book.store.sizes(book.folder).values())
    # The first tells how much smaller files are than their rows in memory, the last is a rest.
    assert all(70_000 < size < 130_000 for size in sizes[2:]) and len(sizes) <= 6


def test_full_files_are_left_alone_by_compaction(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.curation.ledger.compaction.MAX_SMALL_FILES", 2)
    book = ledger(tmp_path)
    full = book.commit([row("a", note="n" * 100)])
    small = book.store.sizes(book.folder)[full]
    monkeypatch.setattr("pipelines.curation.ledger.compaction.SMALL_BYTES", small)
    for i in range(4):
        book.commit([row(f"r{i}")])
    compact(book, Shard())
    assert full in book.store.keys(book.folder) and len(book.store.keys(book.folder)) == 2
    assert set(book.entries(())) == {"a", "r0", "r1", "r2", "r3"}


@pytest.mark.parametrize("together", [1, 2])
def test_compaction_keeps_the_last_attempt_of_a_row(tmp_path, monkeypatch, together):
    monkeypatch.setattr("pipelines.curation.ledger.compaction.MAX_SMALL_FILES", 2)
    for attempts, note in ((1, "old"), (2, "new")):
        for i in range(0, 4, together):
            ids = [f"r{i + k}" for k in range(together)]
            ledger(tmp_path).commit([row(row_id, attempts, note) for row_id in ids])
        for _ in range(2):
            compact(ledger(tmp_path), Shard())
        entries = ledger(tmp_path).entries(["note"])
        assert {entry.values["note"] for entry in entries.values()} == {note}
        assert {r["note"] for r in ledger(tmp_path).read(entries)} == {note}


def test_another_attempt_is_another_file_beside_the_first(tmp_path):
    for attempts in (1, 2):
        ledger(tmp_path).commit([row("a", attempts)])
    assert len(list(ledger(tmp_path).every_row(()))) == 2
    assert len(ledger(tmp_path).entries(())) == 1


def test_a_store_sent_to_a_worker_is_the_same_folder(tmp_path, monkeypatch):
    (tmp_path / "worker").mkdir()
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(Store("out"))
    monkeypatch.chdir(tmp_path / "worker")
    pickle.loads(sent).write("x", b"1")
    assert (tmp_path / "out" / "x").read_bytes() == b"1"


def test_other_settings_begin_anew(tmp_path):
    ledger(tmp_path).commit([row("a")])
    assert ledger(tmp_path, "other").entries(()) == {}


def test_an_interrupted_write_leaves_nothing_that_counts(tmp_path):
    ledger(tmp_path).commit([row("a")])
    folder = tmp_path / ledger(tmp_path).folder
    (folder / ".half.parquet.1234.tmp").write_bytes(b"PAR1 half a file")
    assert set(ledger(tmp_path).entries(())) == {"a"}


def test_the_settings_hash_ignores_order_and_sees_values():
    first = DetectorConfig(options={"a": 1, "b": 2})
    same = DetectorConfig(options={"b": 2, "a": 1})
    assert config_hash(first) == config_hash(same)
    assert config_hash(first) != config_hash(DetectorConfig(options={"a": 1, "b": 3}))


def source(path, **settings):
    spool = list_sources(CurationConfig(source=str(path), **settings))
    return sorted(sources_of(spool.shard(Shard())), key=lambda source: source.uri)


def test_a_folder_is_listed_by_name_with_the_folders_below(tmp_path):
    for name in ("b.mp4", "a.webm", "notes.txt", ".hidden.mp4", "deep/c.MOV", "-dash.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    names = [s.uri.removeprefix(f"{tmp_path}/") for s in source(tmp_path)]
    assert names == ["-dash.mp4", "a.webm", "b.mp4", "deep/c.MOV"]
    assert len(source(tmp_path, recursive=False)) == 3


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", "# films\nfilm.mp4\n\ngone.mp4\n"),
        ("list.csv", "uri,title\nfilm.mp4,x\ngone.mp4,y\n"),
        ("list.jsonl", '{"uri": "film.mp4"}\n{"uri": "gone.mp4"}\n'),
    ],
)
def test_a_manifest_names_sources_and_missing_ones_stay(tmp_path, name, content):
    (tmp_path / "film.mp4").write_bytes(b"x")
    (tmp_path / name).write_text(content)
    found = source(tmp_path / name)
    assert [(s.uri, s.size_bytes) for s in found] == [
        (f"{tmp_path}/film.mp4", 1),
        (f"{tmp_path}/gone.mp4", -1),
    ]


def test_a_file_that_changed_is_a_new_source(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"x")
    before = source(path)[0].source_id
    path.write_bytes(b"xy")
    assert source(path)[0].source_id != before


def test_a_source_without_videos_is_one_clear_sentence(tmp_path):
    with pytest.raises(InputError, match="contains no videos"):
        source(tmp_path)
    with pytest.raises(InputError, match="There is no"):
        source(tmp_path / "gone")


def test_a_block_that_comes_again_decodes_nothing_that_is_committed(tmp_path, monkeypatch):
    films = [write_film(tmp_path / f"{seed}.mp4", [seed]) for seed in (1, 2)]
    config, store = CurationConfig(), Store(str(tmp_path / "out"))
    settings = AnalyzeSettings(config.decode, config.detector, config.keyframes, "hash")
    ledger = Ledger(store, "decoded", "abc", ANALYZED_VIDEOS, "source_id")
    analyze = AnalyzeVideos(settings, store, ledger, Provenance("c", "v", "r"))
    rows = [
        {"source_id": film.stem, "uri": str(film), "size_bytes": film.stat().st_size,
         "modified": "", "attempts": 1}
        for film in films
    ]  # fmt: skip
    whole = pa.Table.from_pylist(rows, schema=PENDING_VIDEO)
    first = pa.concat_tables(analyze(whole.slice(0, 1)))  # the worker dies after the first
    receipts = pa.concat_tables(analyze(whole)).select(RECEIPT.names)
    assert receipts.slice(0, 1).equals(first.select(RECEIPT.names))
    monkeypatch.setattr(analyze, "_decode", lambda *_, **__: pytest.fail("decoded again"))
    again = pa.concat_tables(analyze(whole)).select(RECEIPT.names)
    assert again.equals(receipts)
    assert len(store.keys(ledger.folder, ".parquet")) == 2


def test_videos_that_are_committed_together_share_two_objects(tmp_path):
    films = [write_film(tmp_path / f"{seed}.mp4", [seed, seed + 10]) for seed in (1, 2, 3)]
    config, store = CurationConfig(), Store(str(tmp_path / "out"))
    settings = AnalyzeSettings(config.decode, config.detector, config.keyframes, "hash")
    ledger = Ledger(store, "decoded", "abc", ANALYZED_VIDEOS, "source_id", (1, 2))
    provenance = Provenance("c", "v", "r")
    analyze = AnalyzeVideos(
        settings, store, ledger, provenance, videos_per_commit=3, seconds_per_commit=900.0
    )
    rows = [
        {"source_id": film.stem, "uri": str(film), "size_bytes": film.stat().st_size,
         "modified": "", "attempts": 1, "shard": "00001-of-00002"}
        for film in films
    ]  # fmt: skip
    tables = analyze(pa.Table.from_pylist(rows, schema=PENDING_VIDEO))
    receipts = pa.concat_tables(tables).to_pylist()
    assert len(store.keys("")) == 2
    assert {receipt["key"] for receipt in receipts} == set(store.keys(ledger.folder))
    for receipt, video in zip(receipts, ledger.read(ledger.entries((), Shard(1, 2))), strict=True):
        keyframes = [k for shot in video["shots"] for k in shot["keyframes"]]
        assert store.read_many([k["uri"] for k in keyframes]) == receipt["jpegs"]
        hashes = [hashlib.sha256(jpeg).hexdigest() for jpeg in receipt["jpegs"]]
        assert hashes == [k["sha256"] for k in keyframes] != []
