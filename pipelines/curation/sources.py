"""The videos to curate: a file, a folder, or a manifest that lists addresses.

Millions of them are listed a few thousand at a time and kept on the local disk.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as arrow_fs

from fw_model.errors import InputError, StorageError
from fw_model.schemas.curated import PASSING_VIDEO_REASONS
from pipelines.curation.config import CurationConfig
from pipelines.curation.spool import SourceSpool
from pipelines.storage.filesystems import filesystem, neighbour
from pipelines.storage.parallel import REQUESTS_TOGETHER, in_parallel
from pipelines.storage.retry import retry
from pipelines.storage.store import fetched, file_info

ROWS_AT_ONCE = 8192
FEWEST_FOLDERS = 16  # that are listed at the same time, each with all that is below it
LEVELS_TO_SEARCH = 3  # for so many folders
MANIFESTS = (".txt", ".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Source:
    """An address and the state of its file when it was listed; `size_bytes` is -1 if none."""

    uri: str
    size_bytes: int
    modified: str

    @property
    def source_id(self) -> str:
        """The identity, known without reading the file; a file that changes is a new source."""
        key = f"{self.uri}\0{self.size_bytes}\0{self.modified}"
        return hashlib.sha256(key.encode()).hexdigest()[:32]

    def is_back(self, reason: str) -> bool:
        """Return whether a video quarantined for `reason` was unavailable then and exists now."""
        return self.size_bytes >= 0 and reason in PASSING_VIDEO_REASONS


class ManifestEntry(NamedTuple):
    """A row of a manifest. A file whose size is given is not looked up; "" is a blank address."""

    uri: str
    size_bytes: int | None
    modified: str


def list_sources(config: CurationConfig) -> SourceSpool:
    """List the videos named by `config.source`, each once.

    Raises InputError if there are none or the source cannot be read.
    """
    if not config.source:
        raise InputError("No source was given; name a folder, a video or a manifest.")
    spool = SourceSpool()
    try:
        tables = _tables(config)
        for table in [_first(tables, config.limit)] if config.limit else tables:
            spool.add(table)
    except OSError as error:
        raise InputError(f"Cannot read {config.source}: {error}.") from error
    spool.close()
    if not len(spool):
        raise InputError(
            f"{config.source} contains no videos (files ending in {', '.join(config.extensions)})."
        )
    return spool


def sources_of(table: pa.Table) -> list[Source]:
    """Return the sources in rows of `SourceSpool.SCHEMA`."""
    return [Source(**row) for row in table.to_pylist()]


def _first(tables: Iterable[pa.Table], limit: int) -> pa.Table:
    """Return the first `limit` videos in order of their addresses, each once."""
    first = SourceSpool.SCHEMA.empty_table()
    for table in tables:
        unique = {row["uri"]: row for row in [*first.to_pylist(), *table.to_pylist()]}
        rows = [unique[uri] for uri in sorted(unique)[:limit]]
        first = pa.Table.from_pylist(rows, schema=SourceSpool.SCHEMA)
    return first


def _tables(config: CurationConfig) -> Iterator[pa.Table]:
    info = file_info(config.source)
    if info.type == arrow_fs.FileType.NotFound:
        raise InputError(f"There is no {config.source}; name a folder, a video or a manifest.")
    if info.type == arrow_fs.FileType.Directory:
        yield from _folder(config)
    elif info.path.lower().endswith(MANIFESTS):
        yield from _manifest(config.source, info.path)
    else:
        yield _table([_source(info, config.source)])


def _table(sources: Iterable[Source]) -> pa.Table:
    rows = [vars(source) for source in sources]
    return pa.Table.from_pylist(rows, schema=SourceSpool.SCHEMA)


def _folder(config: CurationConfig) -> Iterator[pa.Table]:
    found, path = filesystem(config.source)
    endings = {f".{e.lower().lstrip('.')}" for e in config.extensions}
    for infos in _listings(found, path, recursive=config.recursive):
        yield _table(
            _source(info, config.source)
            for info in infos
            if info.is_file
            and not info.base_name.startswith(".")
            and PurePosixPath(info.path).suffix.lower() in endings
        )


def _listings(
    found: arrow_fs.FileSystem, path: str, *, recursive: bool
) -> Iterator[list[arrow_fs.FileInfo]]:
    """Yield what is in a folder; folders below it are listed several at the same time."""

    def listed(folder: str, recursive: bool) -> list[arrow_fs.FileInfo]:
        selector = arrow_fs.FileSelector(folder, recursive=recursive)
        return list(retry(lambda: found.get_file_info(selector)))

    folders = [path]
    for _ in range(LEVELS_TO_SEARCH):
        levels = in_parallel(lambda folder: listed(folder, False), folders)
        yield from levels
        below = [i.path for infos in levels for i in infos if i.type == arrow_fs.FileType.Directory]
        folders = below if recursive else []
        if not folders or len(folders) >= FEWEST_FOLDERS:
            break
    for i in range(0, len(folders), REQUESTS_TOGETHER):
        few = folders[i : i + REQUESTS_TOGETHER]
        yield from in_parallel(lambda folder: listed(folder, True), few)


def _source(info: arrow_fs.FileInfo, beside: str) -> Source:
    """Return the source at `info.path`, in the file system of the address `beside`."""
    modified = str(info.mtime_ns) if info.mtime_ns is not None else ""
    size = info.size if info.is_file and info.size is not None else -1
    return Source(neighbour(beside, info.path), size, modified)


def _manifest(uri: str, path: str) -> Iterator[pa.Table]:
    """Yield the videos of a manifest; those that it gives no size of are looked up."""
    folder = str(PurePosixPath(path).parent)
    number = 0
    with fetched(uri) as local:
        entries = _entries(Path(local), PurePosixPath(path).suffix.lower())
        while True:
            try:
                few = [_typed(row) for row in itertools.islice(entries, ROWS_AT_ONCE)]
            except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
                raise InputError(
                    f"{uri} is not a manifest ({error}); write one address per line, or a column "
                    "'uri'."
                ) from error
            if not few:
                return
            for entry in few:
                number += 1
                if not entry.uri:
                    raise InputError(
                        f"Row {number} of the manifest {uri} has no uri; fill it in or remove the "
                        "row."
                    )
            yield _table(_described([(_absolute(e.uri, uri, folder), e) for e in few]))


def _described(entries: Sequence[tuple[str, ManifestEntry]]) -> Iterator[Source]:
    """Yield the sources of entries with their addresses."""
    unknown = [address for address, entry in entries if entry.size_bytes is None]
    found = iter(in_parallel(_look_up, unknown))
    for address, entry in entries:
        is_known = entry.size_bytes is not None
        yield Source(address, entry.size_bytes or 0, entry.modified) if is_known else next(found)


def _absolute(name: str, manifest: str, folder: str) -> str:
    """Return the address of an entry; a relative one is relative to the manifest."""
    if "://" in name or name.startswith("/"):
        return name
    return neighbour(manifest, f"{folder}/{name}")


def _typed(row: Mapping[str, Any]) -> ManifestEntry:
    size = row.get("size_bytes")
    modified = str(row.get("modified") or "")
    return ManifestEntry(str(row["uri"] or ""), None if size is None else int(size), modified)


def _entries(file: Path, suffix: str) -> Iterator[Mapping[str, Any]]:
    """Yield the entries of a manifest, without `uri` or with an empty one for a blank row."""
    if suffix == ".parquet":
        with pq.ParquetFile(file) as table:
            columns = [
                n for n in ("uri", "size_bytes", "modified") if n in table.schema_arrow.names
            ]
            if "uri" not in columns:
                raise KeyError("uri")
            for batch in table.iter_batches(ROWS_AT_ONCE, columns=columns):
                yield from batch.to_pylist()
        return
    with file.open(encoding="utf-8-sig", newline="" if suffix == ".csv" else None) as text:
        if suffix == ".csv":
            for row in csv.DictReader(text):
                filled = {k: v.strip() for k, v in row.items() if k and v and v.strip()}
                yield {"uri": (row["uri"] or "").strip(), **filled}
            return
        for line in filter(None, map(str.strip, text)):
            if suffix == ".jsonl":
                entry = json.loads(line)
                yield {**entry, "uri": entry["uri"]}
            elif not line.startswith("#"):
                yield {"uri": line}


def _look_up(address: str) -> Source:
    """Return the source at an address; a missing file is listed, so that it gets quarantined."""
    try:
        return _source(file_info(address), address)
    except (OSError, StorageError):
        return Source(address, -1, "")
