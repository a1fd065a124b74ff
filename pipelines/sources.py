"""The videos to curate: a file, a folder, or a manifest that lists addresses."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as arrow_fs

from fw_model.errors import InputError, StorageError
from pipelines.curation_config import CurationConfig
from pipelines.storage import filesystem

MANIFESTS = (".txt", ".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Source:
    """An address and the state it was listed in; `size_bytes` is -1 if nothing is there."""

    uri: str
    size_bytes: int
    modified: str

    @property
    def source_id(self) -> str:
        """Identity without reading the file: a file that changes is a new source."""
        key = f"{self.uri}\0{self.size_bytes}\0{self.modified}"
        return hashlib.sha256(key.encode()).hexdigest()[:32]


def list_sources(config: CurationConfig) -> list[Source]:
    """Return the videos named by `config.source`, each once, in order of their addresses.

    Raises InputError if there are none or the source cannot be read.
    """
    if not config.source:
        raise InputError("No source was given; name a folder, a video or a manifest.")
    found, path = filesystem(config.source)
    prefix = config.source.partition("://")[0] + "://" if "://" in config.source else ""
    prefix = "" if isinstance(found, arrow_fs.LocalFileSystem) else prefix
    try:
        info = found.get_file_info(path)
        if info.type == arrow_fs.FileType.NotFound:
            raise InputError(f"There is no {config.source}; name a folder, a video or a manifest.")
        if info.type == arrow_fs.FileType.Directory:
            sources = _folder(found, path, prefix, config)
        elif path.lower().endswith(MANIFESTS):
            sources = _manifest(found, path, prefix)
        else:
            sources = [_source(info, prefix)]
    except OSError as error:
        raise InputError(f"Cannot read {config.source}: {error}.") from error
    if not sources:
        raise InputError(
            f"{config.source} holds no videos (files ending in {', '.join(config.extensions)})."
        )
    unique = {source.uri: source for source in sources}
    ordered = [unique[uri] for uri in sorted(unique)]
    return ordered[: config.limit] if config.limit else ordered


def _folder(
    found: arrow_fs.FileSystem, path: str, prefix: str, config: CurationConfig
) -> list[Source]:
    infos = found.get_file_info(arrow_fs.FileSelector(path, recursive=config.recursive))
    endings = {f".{e.lower().lstrip('.')}" for e in config.extensions}
    return [
        _source(info, prefix)
        for info in infos
        if info.is_file
        and not info.base_name.startswith(".")
        and PurePosixPath(info.path).suffix.lower() in endings
    ]


def _source(info: arrow_fs.FileInfo, prefix: str) -> Source:
    modified = str(info.mtime_ns) if info.mtime_ns is not None else ""
    size = info.size if info.is_file and info.size is not None else -1
    return Source(prefix + info.path, size, modified)


def _manifest(found: arrow_fs.FileSystem, path: str, prefix: str) -> list[Source]:
    with found.open_input_stream(path) as stream:
        data = stream.read()
    try:
        uris = _listed(data, PurePosixPath(path).suffix.lower())
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, pa.ArrowException) as e:
        raise InputError(
            f"{path} is no manifest: it must list one address a line, or have a column 'uri' ({e})."
        ) from e
    folder = str(PurePosixPath(path).parent)
    return [_listed_source(uri, folder, prefix) for uri in uris]


def _listed(data: bytes, suffix: str) -> list[str]:
    if suffix == ".parquet":
        return [str(u) for u in pq.read_table(io.BytesIO(data), columns=["uri"])["uri"].to_pylist()]
    text = data.decode("utf-8-sig")
    if suffix == ".csv":
        return [row["uri"].strip() for row in csv.DictReader(io.StringIO(text))]
    lines = [line.strip() for line in text.splitlines()]
    if suffix == ".jsonl":
        return [str(json.loads(line)["uri"]) for line in lines if line]
    return [line for line in lines if line and not line.startswith("#")]


def _listed_source(uri: str, folder: str, prefix: str) -> Source:
    """Look at an address of a manifest; one that is not there stays, to be quarantined."""
    is_absolute = "://" in uri or uri.startswith("/")
    address = uri if is_absolute else f"{prefix}{folder}/{uri}"
    try:
        found, path = filesystem(address)
        is_local = isinstance(found, arrow_fs.LocalFileSystem)
        info = found.get_file_info(path)
    except (OSError, StorageError):
        return Source(address, -1, "")
    scheme = "" if is_local else address.partition("://")[0] + "://"
    return _source(info, scheme)
