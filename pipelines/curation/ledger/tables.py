"""The finished tables: parts are staged first and published together.

A part is named after its place and its content, so an unchanged run writes the same files.
Publishing moves the parts into place, writes the manifest, which lists the valid files and their
hashes, and then removes the files of the previous run. So whenever a run is killed, the files that
the manifest lists come from one complete run; the next run removes the rest. Knows nothing about
how rows are made.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from fw_model.errors import DataError
from fw_model.schemas.curated import CURATED_TABLES, SCHEMA_VERSION
from fw_model.schemas.curated_rows import CaptionRow, SceneRow, ShotRow, VideoRow
from pipelines.curation.ledger.ledger import WHOLE
from pipelines.curation.ledger.shards import Shard
from pipelines.storage.arrow_rows import ROWS_AT_ONCE, iter_rows
from pipelines.storage.parallel import in_parallel
from pipelines.storage.store import Store

if TYPE_CHECKING:
    from typing_extensions import Buffer

STAGING = "staging"
ROWS_PER_GROUP = {"shots": 256}  # captioning reads the shots of few scenes at once
MANIFEST = "manifest.json"

RowT = TypeVar("RowT")
TABLE_OF: Mapping[type, str] = {
    VideoRow: "videos",
    ShotRow: "shots",
    SceneRow: "scenes",
    CaptionRow: "captions",
}


@dataclass(frozen=True)
class Part:
    """A staged file of one table."""

    table: str
    key: str
    num_rows: int
    size_bytes: int
    sha256: str  # of the file
    content_sha256: str  # of the rows, so independent of the Parquet writer
    place: int = 0  # the parts with the same place in all tables belong together
    shard: str = ""


class Draft:
    """The rows of one part of a table, converted to Arrow as they come: as Python objects they
    would take ten times the memory."""

    def __init__(self, table: str) -> None:
        self.table = table
        self._schema, _ = CURATED_TABLES[table]
        self._rows: list[Mapping[str, object]] = []
        self._batches: list[pa.RecordBatch] = []

    def add(self, rows: Iterable[Mapping[str, object]]) -> None:
        """Append rows."""
        for row in rows:
            self._rows.append(row)
            if len(self._rows) == ROWS_AT_ONCE:
                self._convert()

    def stage(self, store: Store, place: int, run_id: str, shard: Shard = WHOLE) -> Part:
        """Write the rows as part number `place` of the table."""
        self._convert()
        # One batch, so that the hash does not depend on how the rows came.
        content = pa.Table.from_batches(self._batches, self._schema).combine_chunks()
        self._batches = []
        digest = _content_sha256(content)
        key = f"{STAGING}/{run_id}/{self.table}/part-{place:05d}-{digest[:12]}.parquet"
        written = store.write_table(key, content, rows_per_group=ROWS_PER_GROUP.get(self.table))
        size_bytes, sha256 = written
        return Part(
            self.table, key, content.num_rows, size_bytes, sha256, digest, place, shard.name
        )

    def _convert(self) -> None:
        if self._rows:
            self._batches.append(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def write_part(
    store: Store,
    table: str,
    place: int,
    rows: Iterable[Mapping[str, object]],
    run_id: str,
    shard: Shard = WHOLE,
) -> Part:
    """Stage the rows of one part of `table`."""
    draft = Draft(table)
    draft.add(rows)
    return draft.stage(store, place, run_id, shard)


def by_shard(parts: Iterable[Part]) -> dict[Shard, list[Part]]:
    """Return the parts of each shard, in order."""
    found: dict[Shard, list[Part]] = {}
    for part in parts:
        found.setdefault(Shard.parse(part.shard), []).append(part)
    return found


def _content_sha256(content: pa.Table) -> str:
    digest = _DigestFile()
    with pa.ipc.new_stream(pa.PythonFile(digest, "w"), content.schema) as stream:
        stream.write_table(content)
    return digest.sha256.hexdigest()


class _DigestFile(io.RawIOBase):
    """A file that keeps only the hash of what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        self.sha256.update(data)
        return memoryview(data).nbytes


def check_unique(store: Store, parts: Iterable[Part]) -> None:
    """Raise DataError if an id occurs twice in a table.

    This is the last check that every row appears exactly once: no such table is ever published.
    Equal ids come from equal addresses, so each shard can be checked by itself.
    """
    seen: dict[str, set[str]] = {}
    doubled: list[str] = []
    for part in parts:
        column = CURATED_TABLES[part.table][1]
        for row_id in store.read_table(part.key, [column])[column].to_pylist():
            ids = seen.setdefault(part.table, set())
            if row_id in ids:
                doubled.append(f"{part.table}/{row_id}")
            ids.add(row_id)
    if doubled:
        raise DataError(
            f"{len(doubled)} rows would appear twice (first: {doubled[0]}); nothing was published."
        )


def publish(store: Store, parts: Sequence[Part], run_id: str, about: Mapping[str, object]) -> None:
    """Make the staged parts the finished tables; `about` goes into the manifest."""
    new = {part.key: part.key.removeprefix(f"{STAGING}/{run_id}/") for part in parts}
    listed = in_parallel(lambda table: store.keys(table, ".parquet"), CURATED_TABLES)
    old = {key for keys in listed for key in keys}
    known = {(file["key"], file["sha256"]) for file in manifest_files(store) if file["key"] in old}
    changed = {
        part.key: new[part.key] for part in parts if (new[part.key], part.sha256) not in known
    }
    store.move_many(changed, f"{STAGING}/{run_id}")
    files = [asdict(part) | {"key": new[part.key]} for part in parts]
    manifest = {"schema_version": SCHEMA_VERSION, **about, "files": files}
    store.write(MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    store.delete_many(old - set(new.values()))
    store.delete_folder(STAGING)


def manifest_files(store: Store) -> list[dict[str, Any]]:
    """Return what the manifest says about each file of the finished tables; empty without one."""
    manifest = store.read_if_there(MANIFEST)
    return [] if manifest is None else list(json.loads(manifest)["files"])


def place_of(key: str) -> int:
    """Return the place in the name of a published file; DataError if it has none."""
    found = re.search(r"part-(\d+)-", key)
    if found is None:
        raise DataError(f"{key} is not a part of a curated table; curate again.")
    return int(found[1])


def first_places(store: Store, max_rows: int) -> list[int]:
    """Return the places of the first parts, at least one, that have `max_rows` rows at most in all
    tables together: a sample of the finished tables."""
    num_rows: Counter[int] = Counter()
    for file in manifest_files(store):
        num_rows[place_of(file["key"])] += file["num_rows"]
    places = sorted(num_rows)
    totals = itertools.accumulate(num_rows[place] for place in places)
    few = [place for place, total in zip(places, totals, strict=True) if total <= max_rows]
    return few or places[:1]


def published_files(store: Store, table: str) -> list[str]:
    """Return the keys of the files that make up a finished table, in order; DataError if there are
    none."""
    keys = [file["key"] for file in manifest_files(store) if file["table"] == table]
    if not keys:
        raise DataError(
            f"{store.address('')} holds no curated {table} (no file of {MANIFEST}); run "
            "`filmweaver curate SOURCE OUTPUT` and give its OUTPUT."
        )
    return keys


def has_column(store: Store, table: str, column: str) -> bool:
    """Return whether a finished table has a column that an older version did not write."""
    return column in store.read_schema(published_files(store, table)[0]).names


def published_ids(store: Store, table: str) -> Iterator[str]:
    """Yield the ids of a finished table, in order."""
    column = CURATED_TABLES[table][1]
    for key in published_files(store, table):
        yield from store.read_table(key, [column])[column].to_pylist()


def read_published(
    store: Store,
    row_type: type[RowT],
    columns: list[str],
    *,
    ids: Iterable[str] | None = None,
    places: Collection[int] | None = None,
) -> list[RowT]:
    """Return rows of the finished table that `row_type` describes, with only these `columns`.

    `ids` chooses the rows, `places` the parts that are read; None means all.
    """
    table = TABLE_OF[row_type]
    wanted = None
    if ids is not None:  # typed: an empty array would be of nulls
        wanted = pc.field(CURATED_TABLES[table][1]).isin(pa.array(list(ids), pa.string()))
    keys = published_files(store, table)
    if places is not None:
        keys = [key for key in keys if place_of(key) in places]
    found = in_parallel(lambda key: store.read_table(key, columns, filters=wanted), keys)
    return [row for few in found for row in iter_rows(few, row_type)]
