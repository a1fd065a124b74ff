"""The finished tables: parts are staged first and published together.

A part is named by its place and its content, so an unchanged run writes the same files. Publishing
moves the parts in and takes out those of the run before; the manifest, written last, lists what
counts, with hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fw_model.errors import DataError
from fw_model.schema import CURATED_TABLES, SCHEMA_VERSION
from pipelines.assemble import Assembled
from pipelines.storage import Store

STAGING = "staging"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Part:
    """A staged file of one table."""

    table: str
    key: str
    num_rows: int
    size_bytes: int
    sha256: str


def write_part(
    store: Store, table: str, place: int, rows: Sequence[Mapping[str, Any]], run_id: str
) -> Part:
    """Stage the rows of one part of `table`."""
    schema, _ = CURATED_TABLES[table]
    content = pa.Table.from_pylist(list(rows), schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as stream:
        stream.write_table(content)
    digest = hashlib.sha256(sink.getvalue()).hexdigest()
    key = f"{STAGING}/{run_id}/{table}/part-{place:05d}-{digest[:12]}.parquet"
    size = store.write_table(key, content)
    return Part(table, key, len(rows), size, digest)


def write_assembled(store: Store, place: int, rows: Assembled, run_id: str) -> list[Part]:
    """Stage one part each of videos, shots and scenes."""
    return [
        write_part(store, "videos", place, rows.videos, run_id),
        write_part(store, "shots", place, rows.shots, run_id),
        write_part(store, "scenes", place, rows.scenes, run_id),
    ]


def check_unique(store: Store, parts: Iterable[Part]) -> int:
    """Return how many rows there are of which an id is taken already: 0, or DataError.

    The last line of defence of exactly-once: a table with a row twice is never published.
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
    return 0


def publish(store: Store, parts: Sequence[Part], run_id: str, about: Mapping[str, Any]) -> None:
    """Make the staged parts the finished tables."""
    new = {part.key: part.key.removeprefix(f"{STAGING}/{run_id}/") for part in parts}
    old = {key for table in CURATED_TABLES for key in store.keys(table, ".parquet")}
    for staged, key in new.items():
        store.move(staged, key)
    for key in old - set(new.values()):
        store.delete(key)
    listed = [
        {
            "table": part.table,
            "key": new[part.key],
            "num_rows": part.num_rows,
            "size_bytes": part.size_bytes,
            "content_sha256": part.sha256,
        }
        for part in parts
    ]
    manifest = {"schema_version": SCHEMA_VERSION, **about, "files": listed}
    store.write(MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    store.delete_folder(STAGING)
