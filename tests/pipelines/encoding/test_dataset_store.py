"""The encoded dataset: committed once, resumed, cleaned, the same in a folder and in a bucket."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fw_model.errors import DataError
from fw_model.schemas.encoded import SCHEMAS
from fw_model.training.data.dataset import EncodedDataset
from pipelines.encoding import dataset_store as encoded_store
from pipelines.encoding.dataset_store import EncodedStore, local_dataset
from pipelines.encoding.rows import SOURCES, TABLE_SCHEMAS, SourceRow
from pipelines.encoding.shot_frames import VideoSpans
from pipelines.encoding.summary import summarize
from pipelines.storage.store import Store
from tests.pipelines.training.stand_ins import META, encode_into, failed, spans


def test_a_source_row_names_the_columns_of_its_schema() -> None:
    assert set(SourceRow.__annotations__) == set(SOURCES.names)


def test_what_is_encoded_reads_back(film: Path, tmp_path: Path) -> None:
    store = EncodedStore(tmp_path)
    store.open(META)
    encode_into(store, spans(film, (0, 20), (24, 48)))
    assert store.encoded() == {"v": "c1"}
    counts = store.publish({"v": "c1"})
    assert counts == {"sources": 1, "shots": 2, "keyframes": 2, "texts": 3}
    data = EncodedDataset(tmp_path)
    assert data.num_latents.tolist() == [3, 3]  # 10 and 12 frames are cut to 9
    grey = data.latents(0, 1, 2).astype(np.float32)
    assert grey == pytest.approx((5 * 8) / 127.5 - 1, abs=0.03)
    assert data.text_tokens(int(data.shot_texts[0])).shape == (2, 4)
    assert data.texts[int(data.empty_text)] == ""


def test_captions_that_changed_replace_the_old_rows_and_removed_videos_go(
    film: Path, tmp_path: Path
) -> None:
    store = EncodedStore(tmp_path)
    store.open(META)
    a, b = spans(film, (0, 20), video_id="a"), spans(film, (24, 48), video_id="b")
    encode_into(store, a, b)
    store.publish({"a": "c1", "b": "c1"})
    changed = VideoSpans("a", a.uri, a.fps, spans(film, (0, 40), video_id="a").shots, "c2")
    encode_into(store, changed)
    assert store.publish({"a": "c2", "b": "c1"})["shots"] == 2
    data = EncodedDataset(tmp_path)
    assert data.num_latents.tolist() == [5, 3]
    assert store.publish({"a": "c2"})["shots"] == 1
    assert EncodedDataset(tmp_path).shot_ids == ["a-0"]


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("together", [("a",), ("a", "b"), ("a", "c")])
def test_a_video_that_failed_is_done_again_and_stands_in_the_dataset_once(
    published: bool, together: tuple[str, ...], film: Path, tmp_path: Path
) -> None:
    store, current = EncodedStore(tmp_path), {"a": "c1", "b": "c1", "c": "c1"}
    store.open(META)
    encode_into(store, *failed(film, "a", "b"), spans(film, (24, 48), video_id="c"))
    assert store.encoded() == {"c": "c1"}
    if published:
        store.publish(current)
    assert store.encoded() == {"c": "c1"}
    encode_into(store, *(spans(film, (0, 20), video_id=name) for name in together))
    assert set(store.encoded()) == {"c", *together}
    counts = store.publish(current)
    assert counts["sources"] == 3 and counts["shots"] == len({"c", *together})
    assert set(store.encoded()) == {"c", *together}
    assert len(EncodedDataset(tmp_path).shot_ids) == counts["shots"]
    assert store.publish(current) == counts


def test_of_two_failures_the_newer_reason_stays(film: Path, tmp_path: Path) -> None:
    store, current = EncodedStore(tmp_path), {"a": "c1", "b": "c1"}
    store.open(META)
    encode_into(store, *failed(film, "a", "b"))
    store.publish(current)
    for video_id in ("a", "b"):  # whichever part comes first by name
        encode_into(store, spans(film, (0, 60), video_id=video_id))
    counts = store.publish(current)
    summary = summarize(store, counts, tried_now=2)
    assert (summary.videos, summary.encoded, summary.empty, summary.failed) == (2, 0, 0, 2)
    assert all("ended before frame 60" in failure for failure in summary.failures)


def test_a_dataset_of_a_broken_meta_file_is_named_by_who_adds_to_it(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        EncodedStore(tmp_path).open(META)


@pytest.mark.parametrize("missing", ["sources", "texts"])
def test_a_part_that_was_cut_short_is_not_seen(missing: str, film: Path, tmp_path: Path) -> None:
    """The sources are written last: without them nothing vouches for the rest."""
    store = EncodedStore(tmp_path)
    store.open(META)
    encode_into(store, spans(film, (0, 20)))
    encode_into(store, spans(film, (24, 48), video_id="w"))
    newer = max((tmp_path / "sources").iterdir()).name
    for table in ("sources", missing):
        (tmp_path / table / newer).unlink(missing_ok=True)
    assert store.encoded() == {"v": "c1"}
    assert store.publish({"v": "c1", "w": "c1"})["shots"] == 1
    assert [len(list((tmp_path / name).iterdir())) for name in TABLE_SCHEMAS] == [1, 1, 1, 1]


def test_a_reader_sees_what_was_published_last(film: Path, tmp_path: Path) -> None:
    store = EncodedStore(tmp_path)
    store.open(META)
    with pytest.raises(DataError, match="holds no encoded shot"):
        EncodedDataset(tmp_path)
    encode_into(store, spans(film, (0, 20)))
    store.publish({"v": "c1"})
    encode_into(store, spans(film, (24, 48), video_id="w"))  # a run beside it, not yet done
    assert EncodedDataset(tmp_path).shot_ids == ["v-0"]
    store.publish({"v": "c1", "w": "c1"})
    assert EncodedDataset(tmp_path).shot_ids == ["v-0", "w-0"]


def test_a_publishing_that_is_killed_leaves_the_dataset_of_before(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, current = EncodedStore(tmp_path), {"a": "c1", "b": "c1"}
    store.open(META)
    encode_into(store, spans(film, (0, 20), video_id="a"), spans(film, (24, 48), video_id="b"))
    store.publish(current)
    for stop in range(1, 20):  # at its first write, at its second, ...
        calls = iter(range(stop))

        def killed(*_: object, calls=calls, **__: object) -> None:
            if next(calls, None) is None:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            for name in ("write", "write_file", "delete"):
                done = getattr(Store, name)
                patch.setattr(Store, name, lambda *a, done=done: (killed(), done(*a))[1])
            try:
                store.publish({"b": "c1"})
            except KeyboardInterrupt:
                pass
            else:
                break
        assert EncodedDataset(tmp_path).shot_ids in (["a-0", "b-0"], ["b-0"])
    assert stop > 4
    assert EncodedDataset(tmp_path).shot_ids == ["b-0"]
    assert [len(list((tmp_path / name).iterdir())) for name in TABLE_SCHEMAS] == [1, 1, 1, 1]


def test_a_folder_encoded_otherwise_is_refused(tmp_path: Path) -> None:
    EncodedStore(tmp_path).open(META)
    other = META.model_copy(update={"encode_hash": "two"})
    with pytest.raises(DataError, match="encoded with another model"):
        EncodedStore(tmp_path).open(other)


def test_a_dataset_in_a_bucket_is_written_read_and_added_to(
    bucket, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    bucket.share = 0.1  # of all requests are refused
    store = EncodedStore("s3://films/encoded")
    store.open(META)
    encode_into(store, spans(film, (0, 20)))
    assert store.publish({"v": "c1"})["shots"] == 1
    first = EncodedDataset(local_dataset("s3://films/encoded"))
    assert first.shot_ids == ["v-0"]
    encode_into(store, spans(film, (24, 48), video_id="w"))
    store.publish({"v": "c1", "w": "c1"})
    second = EncodedDataset(local_dataset("s3://films/encoded"))
    assert second.shot_ids == ["v-0", "w-0"]
    assert (first.latents(0, 0, 3) == second.latents(0, 0, 3)).all()
    assert bucket.num_refused > 0


def test_workers_of_a_machine_fetch_each_part_once(
    bucket, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = EncodedStore("s3://films/shared")
    store.open(META)
    encode_into(store, spans(film, (0, 20)))
    store.publish({"v": "c1"})
    fetched = []
    copy = encoded_store.local_copy
    monkeypatch.setattr(
        encoded_store, "local_copy", lambda uri: (fetched.append(str(uri)), copy(uri))[1]
    )
    with ThreadPoolExecutor(4) as workers:
        folders = set(workers.map(local_dataset, ["s3://films/shared"] * 4))
    assert len(folders) == 1 and EncodedDataset(folders.pop()).shot_ids == ["v-0"]
    assert len(fetched) == len(set(fetched)) == len(SCHEMAS)


def test_row_groups_stay_small(film: Path, tmp_path: Path) -> None:
    store = EncodedStore(tmp_path)
    store.open(META)
    encode_into(store, spans(film, *[(i, i + 2) for i in range(40)]))
    store.publish({"v": "c1"})
    (file,) = (tmp_path / "shots").glob("*.parquet")
    metadata = pq.read_metadata(file)
    assert max(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)) <= 16
