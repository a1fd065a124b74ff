"""What has been done: rows in Parquet files, and nothing else.

A stage appends small files, each named by the ids it holds and written in one step, in a folder
named by the hash of the settings that decide its rows. So there is no gap between doing and noting,
a rerun finds what is done by reading ids, and a changed setting finds nothing and begins anew. A
row that was tried again lies beside the one before; of the rows of an id, readers take the one with
the most attempts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


def config_hash(*parts: Any) -> str:
    """Return a short hash of settings: pydantic models and plain values, whatever the order of
    their keys."""
    plain = [p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Entry:
    """Where the row of an id stands, and what it says of itself."""

    key: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Ledger:
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

    def commit(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """Write rows, all or none, and return the key of their file."""
        key, _ = self._write(pa.Table.from_pylist(list(rows), schema=self.schema))
        return key

    def compact(self, order: Iterable[str]) -> None:
        """Put many small files together, so that the next run has few to read; `order` is that of
        the ids, in which they will be read.

        Superseded rows stay. A crash in between leaves rows in two files, which readers see once.
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
        shrinks = 1.0  # bytes of a file, as a share of those of its rows in memory
        for key in sorted(small, key=first.__getitem__):
            keys.append(key)
            tables.append(self.store.read_table(key))
            num_bytes += tables[-1].nbytes
            if num_bytes * shrinks >= FULL_BYTES:
                shrinks = self._merge(keys, tables) / num_bytes
                keys, tables, num_bytes = [], [], 0
            elif len(tables) == MAX_TABLES:  # a small one takes more beside its rows than for them
                tables = [pa.concat_tables(tables).combine_chunks()]
        if keys:
            self._merge(keys, tables)

    def _merge(self, keys: Sequence[str], tables: Sequence[pa.Table]) -> int:
        """Make one file of the rows of several; return its bytes."""
        merged, written = self._write(pa.concat_tables(tables))
        for key in keys:
            if key != merged:
                self.store.delete(key)
        return written.size_bytes

    def committed(self, row_id: str, attempts: int) -> Entry | None:
        """Return the entry, with its status, of a row committed by itself in this run; None if
        there is none."""
        key = self._key([{self.id_column: row_id, "attempts": attempts}])
        if not self.store.exists(key):
            return None
        (values,) = self.store.read_table(key, ["status"]).to_pylist()
        return Entry(key, values)

    def _write(self, table: pa.Table) -> tuple[str, Written]:
        key = self._key(table.select([self.id_column, "attempts"]).to_pylist())
        return key, self.store.write_table(key, table)

    def _key(self, rows: Iterable[Mapping[str, Any]]) -> str:
        held = sorted(f"{row[self.id_column]} {row['attempts']}" for row in rows)
        name = hashlib.sha256("\n".join(held).encode()).hexdigest()[:32]
        return f"{self.folder}/{name}.parquet"

    def every_row(self, columns: Iterable[str]) -> Iterator[Entry]:
        """Yield all rows with `columns`, superseded ones too."""
        wanted = list(dict.fromkeys([self.id_column, "attempts", *columns]))
        for key in self.store.keys(self.folder, ".parquet"):
            for values in self.store.read_table(key, wanted).to_pylist():
                yield Entry(key, values)

    def entries(self, columns: Iterable[str]) -> dict[str, Entry]:
        """Return id -> the entry of the row that counts, with `columns`."""
        found: dict[str, Entry] = {}
        for entry in self.every_row(columns):
            row_id = entry.values[self.id_column]
            if row_id not in found or _supersedes(entry.values, found[row_id].values):
                found[row_id] = entry
        return found

    def read(
        self, chosen: Mapping[str, Entry], columns: list[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Yield the rows of the entries, in their order: whole, or their id and `columns`; a list
        of floats is a NumPy row.

        A column may be one within a column, such as `shots.list.element.fingerprint`.
        """
        if chosen:
            yield from iter_rows(self._table(chosen, columns))

    def _table(self, chosen: Mapping[str, Entry], columns: list[str] | None) -> pa.Table:
        if columns is not None:
            columns = list(dict.fromkeys([self.id_column, "attempts", *columns]))
        by_key: dict[str, set[str]] = {}
        for row_id, entry in chosen.items():
            by_key.setdefault(entry.key, set()).add(row_id)
        tables = []
        for key, ids in by_key.items():
            table = self.store.read_table(key, columns)
            held = pc.is_in(table[self.id_column], pa.array(sorted(ids)))
            tables.append(table if pc.all(held).as_py() else table.filter(held))
        found = pa.concat_tables(tables)
        places: dict[str, int] = {}
        numbered = found.select([self.id_column, "attempts"]).to_pylist()
        for place, row in enumerate(numbered):
            known = places.get(row[self.id_column])
            if known is None or _supersedes(row, numbered[known]):
                places[row[self.id_column]] = place
        return found.take([places[row_id] for row_id in chosen])


def _supersedes(row: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Tell whether `row` counts instead of `known`, an earlier met row of the same id."""
    return bool(row["attempts"] > known["attempts"])
