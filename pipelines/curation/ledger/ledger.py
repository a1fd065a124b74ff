"""What has been done: rows in Parquet files, and nothing else.

A stage appends small files, each written in one step and named after the ids it holds, to a folder
named after the hash of the settings that decide its rows. So the work and its record cannot differ:
a rerun reads the ids to find what is done, and with a changed setting it finds nothing and starts
over. A row that was tried again is added beside the earlier one; of all rows with the same id,
readers take the one with the most attempts.

Each shard of the videos has a folder of its own there, except the only shard. In it, each run has a
folder for its small files, which is removed as a whole once they are merged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel

from pipelines.curation.ledger.shards import Shard
from pipelines.storage.arrow_rows import iter_rows
from pipelines.storage.parallel import REQUESTS_TOGETHER, in_parallel
from pipelines.storage.store import Store, Written

LEDGER_FOLDER = "ledger"
RUN_PREFIX = "run-"
GROUP_BYTES = 16 * 1024 * 1024  # few groups, as each is a request, but not too large to read one
WHOLE = Shard()

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
    """The finished rows of one stage under one set of settings; `schema` has `attempts`.

    `counts` are the numbers of shards of which there may be files, see `with_shards`; `run_id` is
    that of the run that commits rows.
    """

    store: Store
    stage: str
    settings_hash: str
    schema: pa.Schema
    id_column: str
    counts: tuple[int, ...] = (1,)
    run_id: str = ""

    @property
    def folder(self) -> str:
        """The folder of this stage and these settings."""
        return f"{LEDGER_FOLDER}/{self.stage}/{self.settings_hash}"

    def folder_of(self, shard: Shard) -> str:
        """The folder of a shard, for the rows of runs with as many shards."""
        return f"{self.folder}/{shard.name}".rstrip("/")

    def with_shards(self, count: int = 1, run_id: str = "") -> Self:
        """Return this ledger for a run with `count` shards and those whose files are there."""
        files, folders = self.store.entries(self.folder, ".parquet")
        found = {count, *(Shard.parse(name).count for name in folders)}
        counts = tuple(sorted(found | {1} if files else found))
        return replace(self, counts=counts, run_id=run_id)

    def files_of_fewer_shards(self, count: int) -> list[str]:
        """Return the keys of the files of runs with fewer than `count` shards."""
        shards = [Shard(i, few) for few in self.counts if few < count for i in range(few)]
        return [key for sizes in in_parallel(self._sizes, shards) for key in sizes]

    def commit(
        self, rows: Sequence[RowT], shard: Shard = WHOLE, *, named_after: int | None = None
    ) -> str:
        """Write rows of one shard, all or none, and return the key of their file.

        The file is named after all rows, or after the one at position `named_after`, by which
        `committed` then finds it.
        """
        table = pa.Table.from_pylist(list(rows), schema=self.schema)
        named = rows if named_after is None else [rows[named_after]]
        key = f"{self._folder_of_run(shard)}/{self._name(named)}"
        self.store.write_table(key, table)
        return key

    def write_merged(self, table: pa.Table, shard: Shard) -> tuple[str, Written]:
        """Write rows that are committed already in one file; return its key."""
        name = self._name(table.select([self.id_column, "attempts"]).to_pylist())
        key = f"{self.folder_of(shard)}/{name}"
        rows_per_group = max(1, table.num_rows * GROUP_BYTES // max(1, table.nbytes))
        return key, self.store.write_table(key, table, rows_per_group=rows_per_group)

    def committed(
        self, row_id: str, attempts: int, columns: Iterable[str], shard: Shard = WHOLE
    ) -> list[Entry]:
        """Return the rows of the file that is named after a row; none if there is no such file."""
        name = self._name([{self.id_column: row_id, "attempts": attempts}])
        key = f"{self._folder_of_run(shard)}/{name}"
        table = self.store.find_table(key, self._with_id(columns))
        return [] if table is None else [Entry(key, values) for values in table.to_pylist()]

    def _folder_of_run(self, shard: Shard) -> str:
        """The folder for this run's small files; a single shard has one folder for all."""
        own = f"/{RUN_PREFIX}{self.run_id}" if shard.count > 1 and self.run_id else ""
        return self.folder_of(shard) + own

    def _name(self, rows: Iterable[Mapping[str, object]]) -> str:
        """Return the name of a file that is named after these rows."""
        held = sorted(f"{row[self.id_column]} {row['attempts']}" for row in rows)
        name = hashlib.sha256("\n".join(held).encode()).hexdigest()[:32]
        return f"{name}.parquet"

    def sizes(self, shard: Shard | None = None) -> dict[str, int]:
        """Return the size of each file that may hold rows of a shard; None: of all files."""
        if shard is None:
            return self.store.sizes(self.folder, ".parquet")
        listed = in_parallel(self._sizes, [shard.within(count) for count in self.counts])
        return {key: size for sizes in listed for key, size in sizes.items()}

    def runs(self, shard: Shard) -> tuple[dict[str, int], list[str]]:
        """Return the size of each file directly in a shard's folder, and the folders of runs."""
        merged, folders = self.store.entries(self.folder_of(shard), ".parquet")
        names = [name for name in folders if name.startswith(RUN_PREFIX)]
        return merged, [f"{self.folder_of(shard)}/{name}" for name in names]

    def _sizes(self, shard: Shard) -> dict[str, int]:
        """Return the size of each file in a shard's folder."""
        sizes, runs = self.runs(shard)
        for run in runs:
            sizes |= self.store.sizes(run, ".parquet")
        return sizes

    def tables(
        self, columns: Iterable[str], shard: Shard | None = None
    ) -> Iterator[tuple[str, pa.Table]]:
        """Yield each file's key and rows, with the id, the attempts and `columns`.

        Files that are merged meanwhile are listed again, so some rows may come twice.
        """
        wanted, seen, is_complete = self._with_id(columns), set[str](), False
        while not is_complete:
            is_complete = True
            keys = [key for key in self.sizes(shard) if key not in seen]
            for i in range(0, len(keys), REQUESTS_TOGETHER):
                few = keys[i : i + REQUESTS_TOGETHER]
                tables = in_parallel(lambda key: self.store.find_table(key, wanted), few)
                for key, table in zip(few, tables, strict=True):
                    seen.add(key)
                    if table is None:
                        is_complete = False
                    else:
                        yield key, table

    def every_row(self, columns: Iterable[str], shard: Shard | None = None) -> Iterator[Entry]:
        """Yield all rows with `columns`, including superseded ones."""
        for key, table in self.tables(columns, shard):
            for values in table.to_pylist():
                yield Entry(key, values)

    def entries(
        self,
        columns: Iterable[str],
        shard: Shard | None = None,
        ids: Collection[str] | None = None,
    ) -> dict[str, Entry]:
        """Return id -> the entry of the row that counts, with `columns`; `ids`: only of these."""
        found: dict[str, Entry] = {}
        wanted = None if ids is None else pa.array(list(ids), pa.string())
        for key, table in self.tables(columns, shard):
            if wanted is not None:
                table = table.filter(pc.is_in(table[self.id_column], wanted))
            for values in table.to_pylist():
                known = found.get(values[self.id_column])
                if known is None or values["attempts"] > known.values["attempts"]:
                    found[values[self.id_column]] = Entry(key, values)
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
        by_key: dict[str, list[str]] = {}
        for row_id, entry in chosen.items():
            by_key.setdefault(entry.key, []).append(row_id)

        def read(key: str) -> pa.Table:
            ids = sorted(by_key[key])
            table = self.store.read_table(key, columns, filters=self._filter(ids, columns))
            held = pc.is_in(table[self.id_column], pa.array(ids))
            return table if pc.all(held).as_py() else table.filter(held)

        tables = in_parallel(read, by_key)
        if columns is None:  # with nulls for columns that an older version did not write
            tables = [self.schema.empty_table(), *tables]
        found = joined(tables)
        attempts = found["attempts"].to_pylist()
        places: dict[str, int] = {}
        for place, row_id in enumerate(found[self.id_column].to_pylist()):
            if row_id not in places or attempts[place] > attempts[places[row_id]]:
                places[row_id] = place
        return found.take([places[row_id] for row_id in chosen])

    def _filter(self, ids: list[str], columns: list[str] | None) -> pc.Expression | None:
        """Return what the ids have in common, so that row groups without them are not read."""
        if any("." in column for column in columns or ()):
            return None  # the store cannot filter columns inside a list
        column = pc.field(self.id_column)
        return (column >= ids[0]) & (column <= ids[-1])

    def _with_id(self, columns: Iterable[str]) -> list[str]:
        return list(dict.fromkeys([self.id_column, "attempts", *columns]))


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """Return tables as one; a column that one of them does not have is null there, inside nested
    columns too."""
    return pa.concat_tables(tables, promote_options="permissive")
