"""Files under an output folder, on a local disk or in a bucket, written whole or not at all.

A local file is written beside its place and renamed; an object store shows an object only when its
upload has ended. Knows nothing about what the files hold.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as arrow_fs

from fw_model.errors import StorageError


def filesystem(uri: str) -> tuple[arrow_fs.FileSystem, str]:
    """Return the file system and the path in it that `uri` (or a local path) names."""
    try:
        if "://" in uri:
            return arrow_fs.FileSystem.from_uri(uri)
        return arrow_fs.LocalFileSystem(), str(Path(uri).absolute())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StorageError(f"Cannot open {uri!r}: {error}.") from error


class Store:
    """A folder. Keys are relative paths with forward slashes. Cheap to send to other processes."""

    def __init__(self, uri: str) -> None:
        self._filesystem, self._root = filesystem(uri)
        # Absolute: other processes, to which a store is sent, work in other folders.
        self.uri = uri if "://" in uri else self._root
        self._is_local = isinstance(self._filesystem, arrow_fs.LocalFileSystem)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.uri,)

    def path(self, key: str) -> str:
        """Return the path of `key` inside the store's file system."""
        return f"{self._root}/{key}"

    def address(self, key: str) -> str:
        """Return the address of `key` for people and other tools."""
        return self.path(key) if self._is_local else f"{self.uri.rstrip('/')}/{key}"

    def write(self, key: str, data: bytes) -> None:
        """Write `data` to `key`, replacing what was there, in one step; StorageError if refused."""
        target = self.path(key)
        try:
            if self._is_local:
                _write_local(Path(target), data)
            else:
                with self._filesystem.open_output_stream(target) as stream:
                    stream.write(data)
        except OSError as error:
            raise StorageError(f"Cannot write {self.address(key)}: {_why(error)}.") from error

    def write_once(self, key: str, data: bytes) -> None:
        """Write content-addressed `data`, unless it is there already."""
        if not self.exists(key):
            self.write(key, data)

    def read(self, key: str) -> bytes:
        """Return the bytes of `key`; StorageError if there are none."""
        try:
            with self._filesystem.open_input_stream(self.path(key)) as stream:
                return bytes(stream.read())
        except OSError as error:
            raise StorageError(f"Cannot read {self.address(key)}: {_why(error)}.") from error

    def exists(self, key: str) -> bool:
        """Tell whether there is a file at `key`."""
        return bool(self._filesystem.get_file_info(self.path(key)).type == arrow_fs.FileType.File)

    def keys(self, folder: str, suffix: str = "") -> list[str]:
        """Return the keys below `folder` that end with `suffix`, sorted. A folder that is not
        there holds none; temporary files of interrupted writes are left out."""
        selector = arrow_fs.FileSelector(self.path(folder), allow_not_found=True, recursive=True)
        try:
            found = self._filesystem.get_file_info(selector)
        except OSError as error:
            raise StorageError(f"Cannot list {self.address(folder)}: {_why(error)}.") from error
        keys = [info.path[len(self._root) + 1 :] for info in found if info.is_file]
        return sorted(k for k in keys if k.endswith(suffix) and not k.endswith(".tmp"))

    def move(self, source: str, target: str) -> None:
        """Give the file at `source` the key `target`, replacing what was there."""
        try:
            if self._is_local:
                Path(self.path(target)).parent.mkdir(parents=True, exist_ok=True)
                os.replace(self.path(source), self.path(target))
            else:
                self._filesystem.move(self.path(source), self.path(target))
        except OSError as error:
            raise StorageError(f"Cannot move {self.address(source)}: {_why(error)}.") from error

    def delete(self, key: str) -> None:
        """Remove the file at `key`; it is no error if it is gone already."""
        if self.exists(key):
            self._filesystem.delete_file(self.path(key))

    def delete_folder(self, folder: str) -> None:
        """Remove `folder` with all that it holds; it is no error if it is gone already."""
        path = self.path(folder)
        if self._filesystem.get_file_info(path).type == arrow_fs.FileType.Directory:
            self._filesystem.delete_dir(path)

    def write_table(self, key: str, table: pa.Table) -> int:
        """Write a Parquet file and return its size in bytes."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        data = sink.getvalue()
        self.write(key, data)
        return len(data)

    def read_table(self, key: str, columns: list[str] | None = None) -> pa.Table:
        """Read a Parquet file, or some columns of it."""
        try:
            return pq.read_table(self.path(key), columns=columns, filesystem=self._filesystem)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"Cannot read {self.address(key)}: {error}.") from error


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def fetch_local(uri: str) -> tuple[str, bool]:
    """Return a local path with the content of `uri`, and whether it is a copy to be deleted."""
    found, path = filesystem(uri)
    if isinstance(found, arrow_fs.LocalFileSystem):
        return path, False
    handle, copy = tempfile.mkstemp(suffix=Path(path).suffix)
    try:
        with os.fdopen(handle, "wb") as target, found.open_input_stream(path) as stream:
            while block := stream.read(1 << 22):
                target.write(block)
    except BaseException:
        Path(copy).unlink(missing_ok=True)
        raise
    return copy, True


@contextlib.contextmanager
def local_copy(uri: str) -> Iterator[str]:
    """Give a local path with the content of `uri` while the block runs; StorageError without."""
    try:
        path, is_copy = fetch_local(uri)
    except OSError as error:
        raise StorageError(f"Cannot read {uri}: {_why(error)}.") from error
    try:
        yield path
    finally:
        if is_copy:
            Path(path).unlink(missing_ok=True)


def _why(error: OSError) -> str:
    return error.strerror.lower() if error.strerror else str(error)
