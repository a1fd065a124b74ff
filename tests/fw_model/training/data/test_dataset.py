"""The encoded dataset: a damaged one is told what is wrong with it."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from fw_model.errors import DataError
from fw_model.schemas.encoded import META_FILE
from fw_model.training.data.dataset import EncodedDataset
from tests.encoded_films import write_encoded


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_encoded(tmp_path / "data")


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, '{"fps": -1}', '{"unheard_of": 1}'])
def test_a_broken_meta_file_is_named(text: str, dataset: Path) -> None:
    (dataset / META_FILE).write_text(text)
    with pytest.raises(DataError, match=rf"{META_FILE} cannot be read .*encode the dataset again"):
        EncodedDataset(dataset)


def test_a_table_that_lacks_a_column_is_named(dataset: Path) -> None:
    file = dataset / "shots" / "0.parquet"
    pq.write_table(pq.read_table(file).drop(["scene_id"]), file)
    with pytest.raises(DataError, match=r"0\.parquet has no column scene_id"):
        EncodedDataset(dataset)


def test_a_table_with_columns_in_another_order_reads_the_same(dataset: Path) -> None:
    before = EncodedDataset(dataset)
    file = dataset / "shots" / "0.parquet"
    table = pq.read_table(file)
    pq.write_table(table.select(table.column_names[::-1]), file)
    after = EncodedDataset(dataset)
    assert after.shot_ids == before.shot_ids
    assert (after.latents(0, 0, 2) == before.latents(0, 0, 2)).all()


@pytest.mark.parametrize("kept", [0.02, 0.5])
def test_a_truncated_table_is_named(kept: float, dataset: Path) -> None:
    file = dataset / "keyframes" / "0.parquet"
    data = file.read_bytes()
    file.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DataError, match="keyframes cannot be read"):
        EncodedDataset(dataset)


def test_a_table_with_a_damaged_page_is_named(dataset: Path) -> None:
    file = dataset / "shots" / "0.parquet"
    pq.write_table(pq.read_table(file), file, compression="zstd")
    data = bytearray(file.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    file.write_bytes(data)
    with pytest.raises(DataError, match="shots cannot be read"):
        EncodedDataset(dataset)
