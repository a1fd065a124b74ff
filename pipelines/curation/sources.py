"""The videos to curate: a file, a folder, or a manifest that lists addresses."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as arrow_fs

from fw_model.errors import InputError, StorageError
from fw_model.schemas.curated import PASSING_VIDEO_REASONS
from pipelines.curation.config import CurationConfig
from pipelines.storage.filesystems import filesystem, neighbour
from pipelines.storage.retry import retry
from pipelines.storage.store import file_info, read_bytes

LOOKUPS_TOGETHER = 16
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


def list_sources(config: CurationConfig) -> list[Source]:
    """Return the videos named by `config.source`, each once, in order of their addresses.

    Raises InputError if there are none or the source cannot be read.
    """
    if not config.source:
        raise InputError("No source was given; name a folder, a video or a manifest.")
    try:
        sources = _sources(config)
    except OSError as error:
        raise InputError(f"Cannot read {config.source}: {error}.") from error
    if not sources:
        raise InputError(
            f"{config.source} contains no videos (files ending in {', '.join(config.extensions)})."
        )
    unique = {source.uri: source for source in sources}
    ordered = [unique[uri] for uri in sorted(unique)]
    return ordered[: config.limit] if config.limit else ordered


def _sources(config: CurationConfig) -> list[Source]:
    info = file_info(config.source)
    if info.type == arrow_fs.FileType.NotFound:
        raise InputError(f"There is no {config.source}; name a folder, a video or a manifest.")
    if info.type == arrow_fs.FileType.Directory:
        return _folder(config)
    if info.path.lower().endswith(MANIFESTS):
        return _manifest(config.source, info.path)
    return [_source(info, config.source)]


def _folder(config: CurationConfig) -> list[Source]:
    found, path = filesystem(config.source)
    selector = arrow_fs.FileSelector(path, recursive=config.recursive)
    infos = retry(lambda: found.get_file_info(selector))
    endings = {f".{e.lower().lstrip('.')}" for e in config.extensions}
    return [
        _source(info, config.source)
        for info in infos
        if info.is_file
        and not info.base_name.startswith(".")
        and PurePosixPath(info.path).suffix.lower() in endings
    ]


def _source(info: arrow_fs.FileInfo, beside: str) -> Source:
    """Return the source at `info.path`, in the file system of the address `beside`."""
    modified = str(info.mtime_ns) if info.mtime_ns is not None else ""
    size = info.size if info.is_file and info.size is not None else -1
    return Source(neighbour(beside, info.path), size, modified)


def _manifest(uri: str, path: str) -> list[Source]:
    try:
        listed = _listed(read_bytes(uri), PurePosixPath(path).suffix.lower())
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, pa.ArrowException) as e:
        raise InputError(
            f"{uri} is not a manifest ({e}); write one address per line, or a column 'uri'."
        ) from e
    blank = next((row for row, name in enumerate(listed, 1) if not name), None)
    if blank is not None:
        raise InputError(
            f"Row {blank} of the manifest {uri} has no uri; fill it in or remove the row."
        )
    folder = str(PurePosixPath(path).parent)
    addresses = [_absolute(str(name), uri, folder) for name in listed]
    with ThreadPoolExecutor(LOOKUPS_TOGETHER) as pool:  # mostly waiting for the store
        return list(pool.map(_look_up, addresses))


def _absolute(name: str, manifest: str, folder: str) -> str:
    """Return the address of an entry; a relative one is relative to the manifest."""
    if "://" in name or name.startswith("/"):
        return name
    return neighbour(manifest, f"{folder}/{name}")


def _listed(data: bytes, suffix: str) -> list[str | None]:
    """Return the entries of a manifest, None or "" for a row without one."""
    if suffix == ".parquet":
        column = pq.read_table(io.BytesIO(data), columns=["uri"])["uri"]
        return list(column.to_pylist())
    text = data.decode("utf-8-sig")
    if suffix == ".csv":
        return [(row["uri"] or "").strip() for row in csv.DictReader(io.StringIO(text))]
    lines = [line.strip() for line in text.splitlines()]
    if suffix == ".jsonl":
        return [json.loads(line)["uri"] for line in lines if line]
    return [line for line in lines if line and not line.startswith("#")]


def _look_up(address: str) -> Source:
    """Return the source at an address; a missing file is listed, so that it gets quarantined."""
    try:
        return _source(file_info(address), address)
    except (OSError, StorageError):
        return Source(address, -1, "")
