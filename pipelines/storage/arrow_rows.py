"""Rows of Arrow tables as Python values, a few at a time, with vectors as NumPy arrays.

A vector of 512 numbers takes 2 KiB in Arrow and NumPy and 16 KiB as a list of Python floats.
Knows nothing about where tables come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints, overload

import pyarrow as pa

ROWS_AT_ONCE = 256
RowT = TypeVar("RowT")
COLUMN_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def schema_of(row_type: type) -> pa.Schema:
    """Return the schema of rows of a TypedDict with plain values and lists of them."""
    return pa.schema([(name, _column(hint)) for name, hint in get_type_hints(row_type).items()])


def _column(hint: type) -> pa.DataType:
    if get_origin(hint) is list:
        return pa.list_(_column(get_args(hint)[0]))
    return COLUMN_TYPES[hint]


@overload
def iter_rows(table: pa.Table) -> Iterator[dict[str, Any]]: ...


@overload
def iter_rows(table: pa.Table, row_type: type[RowT]) -> Iterator[RowT]: ...


def iter_rows(table: pa.Table, row_type: type[object] = dict) -> Iterator[object]:
    """Yield the rows of a table, in order; a list of floats is a read-only NumPy array.

    `row_type` is the TypedDict that describes the table's columns; nothing is checked against it.
    """
    for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
        columns = [_values(column) for column in batch.columns]
        for row in zip(*columns, strict=True):
            yield dict(zip(table.column_names, row, strict=True))


def _values(array: pa.Array) -> list[object]:
    if pa.types.is_struct(array.type):
        names = [array.type.field(i).name for i in range(array.type.num_fields)]
        fields = [_values(array.field(i)) for i in range(len(names))]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*fields, strict=True)]
        return _with_nulls(array, rows) if fields else list(array.to_pylist())
    if not pa.types.is_list(array.type):
        return list(array.to_pylist())
    ends = array.offsets.to_pylist()
    start = ends[0]
    within = array.values.slice(start, ends[-1] - start)
    is_vector = pa.types.is_floating(array.type.value_type) and not within.null_count
    values = within.to_numpy(zero_copy_only=False) if is_vector else _values(within)
    pairs = zip(ends, ends[1:], strict=False)
    return _with_nulls(array, [values[a - start : b - start] for a, b in pairs])


def _with_nulls(array: pa.Array, values: Sequence[object]) -> list[object]:
    if not array.null_count:
        return list(values)
    missing = array.is_null().to_pylist()
    return [None if gone else value for gone, value in zip(missing, values, strict=True)]
