"""What has been done: rows in Parquet files, and nothing else.

A stage appends small files, each written in one step and named after the ids it holds, to a folder
named after the hash of the settings that decide its rows. So the work and its record cannot differ:
a rerun reads the ids to find what is done, and with a changed setting it finds nothing and starts
over. A row that was tried again is added beside the earlier one; of all rows with the same id,
readers take the one with the most attempts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from pipelines.storage.arrow_rows import iter_rows
from pipelines.storage.store import Store, Written

LEDGER_FOLDER = "ledger"
MAX_SMALL_FILES = 512
SMALL_BYTES = 32 * 1024 * 1024
FULL_BYTES = 64 * 1024 * 1024
MAX_TABLES = 64

RowT = TypeVar("RowT", bound=Mapping[str, object])
"""The TypedDict of a ledger's rows."""


def config_hash(*parts: object) -> str:
    """Return a short hash of settings: pydantic models and plain values, whatever the order of
    their keys."""
    plain = [p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """The file of a row, and the columns of the row that were asked for."""

    key: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Ledger(Generic[RowT]):
    """The finished rows of one stage under one set of settings; `schema` has `attempts`."""

    store: Store
    stage: str
    settings_hash: str
    schema: pa.Schema
    id_column: str

    @property
    def folder(self) -> str:
        """The folder of this stage and these settings."""
        return f"{LEDGER_FOLDER}/{self.stage}/{self.settings_hash}"

    def commit(self, rows: Sequence[RowT]) -> str:
        """Write rows, all or none, and return the key of their file."""
        key, _ = self._write(pa.Table.from_pylist(list(rows), schema=self.schema))
        return key

    def compact(self, order: Iterable[str]) -> None:
        """Merge small files if there are many, so that the next run reads fewer; `order` is the
        order in which the ids will be read.

        Superseded rows stay. A crash in between leaves rows in two files; readers return them once.
        """
        sizes = self.store.sizes(self.folder, ".parquet")
        small = [key for key, size_bytes in sizes.items() if size_bytes < SMALL_BYTES]
        if len(small) <= MAX_SMALL_FILES:
            return
        places = {row_id: place for place, row_id in enumerate(order)}
        first = dict.fromkeys(small, len(places))
        for entry in self.every_row(()):
            if entry.key in first:
                place = places.get(entry.values[self.id_column], len(places))
                first[entry.key] = min(first[entry.key], place)
        keys: list[str] = []
        tables: list[pa.Table] = []
        num_bytes = 0
        shrinkage = 1.0  # size of a file divided by the size of its rows in memory
        for key in sorted(small, key=first.__getitem__):
            keys.append(key)
            tables.append(self.store.read_table(key))
            num_bytes += tables[-1].nbytes
            if num_bytes * shrinkage >= FULL_BYTES:
                shrinkage = self._merge(keys, tables) / num_bytes
                keys, tables, num_bytes = [], [], 0
            elif len(tables) == MAX_TABLES:  # a small table takes more memory than its rows
                tables = [_joined(tables).combine_chunks()]
        if keys:
            self._merge(keys, tables)

    def _merge(self, keys: Sequence[str], tables: Sequence[pa.Table]) -> int:
        """Replace files by one with all of their rows; return its size in bytes."""
        merged, written = self._write(_joined(tables))
        for key in keys:
            if key != merged:
                self.store.delete(key)
        return written.size_bytes

    def committed(self, row_id: str, attempts: int) -> Entry | None:
        """Return the entry, with its status, of a row in a file of its own, if there is one."""
        key = self._key([{self.id_column: row_id, "attempts": attempts}])
        if not self.store.exists(key):
            return None
        (values,) = self.store.read_table(key, ["status"]).to_pylist()
        return Entry(key, values)

    def _write(self, table: pa.Table) -> tuple[str, Written]:
        key = self._key(table.select([self.id_column, "attempts"]).to_pylist())
        return key, self.store.write_table(key, table)

    def _key(self, rows: Iterable[Mapping[str, object]]) -> str:
        held = sorted(f"{row[self.id_column]} {row['attempts']}" for row in rows)
        name = hashlib.sha256("\n".join(held).encode()).hexdigest()[:32]
        return f"{self.folder}/{name}.parquet"

    def every_row(self, columns: Iterable[str]) -> Iterator[Entry]:
        """Yield all rows with `columns`, including superseded ones."""
        for key in self.store.keys(self.folder, ".parquet"):
            for values in self.store.read_table(key, self._with_id(columns)).to_pylist():
                yield Entry(key, values)

    def entries(self, columns: Iterable[str]) -> dict[str, Entry]:
        """Return id -> the entry of the row that counts, with `columns`."""
        found: dict[str, Entry] = {}
        for entry in self.every_row(columns):
            known = found.get(entry.values[self.id_column])
            if known is None or entry.values["attempts"] > known.values["attempts"]:
                found[entry.values[self.id_column]] = entry
        return found

    def read(self, chosen: Mapping[str, Entry], columns: list[str] | None = None) -> Iterator[RowT]:
        """Yield the rows of the entries, in order: all columns, or the id and `columns`. A list of
        floats is a NumPy row.

        A column may be inside another one, such as `shots.list.element.fingerprint`.
        """
        if chosen:
            table = self._table(chosen, None if columns is None else self._with_id(columns))
            yield from cast("Iterator[RowT]", iter_rows(table))

    def _table(self, chosen: Mapping[str, Entry], columns: list[str] | None) -> pa.Table:
        by_key: dict[str, set[str]] = {}
        for row_id, entry in chosen.items():
            by_key.setdefault(entry.key, set()).add(row_id)
        tables = []
        for key, ids in by_key.items():
            table = self.store.read_table(key, columns)
            held = pc.is_in(table[self.id_column], pa.array(sorted(ids)))
            tables.append(table if pc.all(held).as_py() else table.filter(held))
        if columns is None:  # with nulls for columns that an older version did not write
            tables = [self.schema.empty_table(), *tables]
        found = _joined(tables)
        attempts = found["attempts"].to_pylist()
        places: dict[str, int] = {}
        for place, row_id in enumerate(found[self.id_column].to_pylist()):
            if row_id not in places or attempts[place] > attempts[places[row_id]]:
                places[row_id] = place
        return found.take([places[row_id] for row_id in chosen])

    def _with_id(self, columns: Iterable[str]) -> list[str]:
        return list(dict.fromkeys([self.id_column, "attempts", *columns]))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Return tables as one; a column that one of them does not have is null there, inside nested
    columns too."""
    return pa.concat_tables(tables, promote_options="permissive")
