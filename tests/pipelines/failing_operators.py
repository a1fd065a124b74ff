"""Operators that raise the error they are given."""

import pyarrow as pa

ROW = pa.schema([("name", pa.string())])


class FailingOperator:
    """Raises in its call."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __call__(self, rows: pa.Table) -> pa.Table:
        raise self._error


class FailsToStart:
    """Raises in its constructor."""

    def __init__(self, error: Exception) -> None:
        raise error

    def __call__(self, rows: pa.Table) -> pa.Table:
        return rows
