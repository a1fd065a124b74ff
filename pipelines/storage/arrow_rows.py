"""Rows of Arrow tables as Python values, a few at a time, their vectors as NumPy rows.

A vector of 512 numbers is 2 KiB in Arrow and in NumPy and 16 KiB as a list of Python's numbers.
Knows nothing of where tables come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

ROWS_AT_ONCE = 256


def iter_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table, in order; a list of floats is a NumPy row, read-only."""
    for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
        columns = [_values(column) for column in batch.columns]
        for row in zip(*columns, strict=True):
            yield dict(zip(table.column_names, row, strict=True))


def _values(array: pa.Array) -> list[Any]:
    if pa.types.is_struct(array.type):
        names = [array.type.field(i).name for i in range(array.type.num_fields)]
        fields = [_values(array.field(i)) for i in range(len(names))]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*fields, strict=True)]
        return _with_nulls(array, rows) if fields else array.to_pylist()  # type: ignore[no-any-return]
    if not pa.types.is_list(array.type):
        return array.to_pylist()  # type: ignore[no-any-return]
    ends = array.offsets.to_pylist()
    within = array.values.slice(ends[0], ends[-1] - ends[0])
    is_vector = pa.types.is_floating(array.type.value_type) and not within.null_count
    values = within.to_numpy(zero_copy_only=False) if is_vector else _values(within)
    start = ends[0]
    pairs = zip(ends, ends[1:], strict=False)
    return _with_nulls(array, [values[a - start : b - start] for a, b in pairs])


def _with_nulls(array: pa.Array, values: list[Any]) -> list[Any]:
    if not array.null_count:
        return values
    missing = array.is_null().to_pylist()
    return [None if gone else value for gone, value in zip(missing, values, strict=True)]
