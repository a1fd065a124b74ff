"""Rows of tables: the same values as Arrow's own, with vectors in NumPy."""

import numpy as np
import pyarrow as pa
import pytest

from fw_model.schemas.curated import ANALYZED_VIDEOS
from pipelines.storage.arrow_rows import iter_rows

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("weights", pa.list_(pa.float32())),
        ("prints", pa.list_(pa.binary())),
        ("shots", pa.list_(pa.struct([("index", pa.int32()), ("row", pa.list_(pa.float64()))]))),
        ("opening", pa.struct([("kind", pa.string())])),
    ]
)
ROWS = [
    {
        "name": "a",
        "weights": [1.0, 2.0],
        "prints": [b"x", None],
        "shots": [{"index": 0, "row": [0.5]}, {"index": 1, "row": None}],
        "opening": {"kind": "cut"},
    },
    {"name": None, "weights": None, "prints": None, "shots": None, "opening": None},
    {"name": "c", "weights": [], "prints": [], "shots": [], "opening": {"kind": None}},
    {
        "name": "d",
        "weights": [3.0],
        "prints": [b""],
        "shots": [{"index": None, "row": []}, None, {"index": 2, "row": [0.25, 1.5]}],
        "opening": {"kind": "start"},
    },
]


def plain(value):
    """Turn vectors back into lists."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return {k: plain(v) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("start", range(4))
@pytest.mark.parametrize("at_once", [1, 3, 256])
def test_rows_are_those_of_arrow_wherever_a_table_is_cut(monkeypatch, start, at_once):
    monkeypatch.setattr("pipelines.storage.arrow_rows.ROWS_AT_ONCE", at_once)
    table = pa.Table.from_pylist(ROWS, schema=SCHEMA).slice(start)
    rows = list(iter_rows(table))
    assert [plain(row) for row in rows] == ROWS[start:]
    assert pa.Table.from_pylist(rows, schema=SCHEMA).equals(table.combine_chunks())


def test_vectors_are_rows_of_their_own_type():
    (row, *_) = iter_rows(pa.Table.from_pylist(ROWS, schema=SCHEMA))
    assert row["weights"].dtype == np.float32 and row["shots"][0]["row"].dtype == np.float64


def test_vectors_with_gaps_stay_lists():
    table = pa.Table.from_pylist([{"weights": [1.0, None]}])
    assert list(iter_rows(table)) == [{"weights": [1.0, None]}]


def test_an_analyzed_video_goes_through_unchanged():
    shot = {"shot_id": "s", "embedding": [0.6, 0.8], "colours": [1.0], "fingerprint": [b"0" * 32]}
    table = pa.Table.from_pylist(
        [{"source_id": "v", "shots": [shot, {"shot_id": "t"}]}], schema=ANALYZED_VIDEOS
    )
    again = pa.Table.from_pylist(list(iter_rows(table)), schema=ANALYZED_VIDEOS)
    assert again.equals(table)
