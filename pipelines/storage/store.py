"""Files under an output folder, on a local disk or in a bucket, written whole or not at all.

An object store shows an object only once its upload has ended; requests that it refuses for a
moment are retried. Knows nothing about what the files hold, except that tables are Parquet.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs as arrow_fs

from fw_model.errors import StorageError
from fw_model.files.atomic import atomic_file, write_atomic
from pipelines.storage.byte_ranges import ByteRange, read_ranges
from pipelines.storage.filesystems import filesystem, is_local, neighbour
from pipelines.storage.parallel import in_parallel
from pipelines.storage.retry import retry
from pipelines.storage.tempdirs import temporary_folder

BLOCK_BYTES = 1 << 25
WHOLE_BYTES = 1 << 23  # a smaller table is read whole: parts of it would be more requests
Result = TypeVar("Result")


class Written(NamedTuple):
    """Size and hash of a file that was written."""

    size_bytes: int
    sha256: str


class Store:
    """A folder whose keys are relative paths with forward slashes; cheap to pickle."""

    def __init__(self, uri: str) -> None:
        self._filesystem, self._root = filesystem(uri)
        # Absolute, because the processes that a store is sent to have other working folders.
        self.uri = uri if "://" in uri else self._root
        self._is_local = is_local(self._filesystem)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        return Store, (self.uri,)

    def path(self, key: str) -> str:
        """Return the path of `key` inside the store's file system."""
        return f"{self._root}/{key}"

    def address(self, key: str) -> str:
        """Return the full path or URI of `key`, for people and other tools."""
        return neighbour(self.uri, self.path(key))

    def write(self, key: str, data: bytes) -> None:
        """Write `data` to `key`, replacing what was there, in one step."""
        if self._is_local:
            self._try("write", key, lambda: write_atomic(Path(self.path(key)), data))
        else:
            self._try("write", key, lambda: self._upload(key, data))

    def write_once(self, key: str, data: bytes) -> None:
        """Write content-addressed `data`, unless it is there already."""
        if not self.exists(key):
            self.write(key, data)

    def write_file(self, key: str, path: Path) -> None:
        """Write the content of a local file to `key`, as `write` does, in little memory."""
        if self._is_local:
            self._try("write", key, lambda: _copy_local(path, Path(self.path(key))))
        else:
            self._try("write", key, lambda: self._upload(key, _mapped(path)))

    def _upload(self, key: str, data: bytes | pa.Buffer) -> None:
        # In one piece: a stream abandoned between two pieces would leave a finished object.
        with self._filesystem.open_output_stream(self.path(key)) as stream:
            stream.write(data)

    def read(self, key: str) -> bytes:
        """Return the bytes of `key`, a file or a range of it; StorageError if it is missing."""
        return self._read_ranges([ByteRange.parse(key)])[0]

    def read_many(self, keys: Sequence[str]) -> list[bytes]:
        """Return what `read` returns for each key; each file is opened once, and several at the
        same time."""
        by_file: dict[str, list[ByteRange]] = {}
        for part in map(ByteRange.parse, keys):
            by_file.setdefault(part.file, []).append(part)
        found: dict[ByteRange, bytes] = {}
        groups = list(by_file.values())
        for group, contents in zip(groups, in_parallel(self._read_ranges, groups), strict=True):
            found.update(zip(group, contents, strict=True))
        return [found[ByteRange.parse(key)] for key in keys]

    def read_if_there(self, key: str) -> bytes | None:
        """Return the bytes of the file at `key`, None if there is none."""
        with self._named("read", key):
            try:
                return _read(self._filesystem, self.path(key))
            except FileNotFoundError:
                return None

    def _read_ranges(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return ranges of one file."""
        file = ranges[0].file
        with (
            self._named("read", file),
            retry(lambda: self._filesystem.open_input_file(self.path(file))) as source,
        ):
            return read_ranges(
                ranges, source.size(), lambda *where: bytes(retry(lambda: source.read_at(*where)))
            )

    def exists(self, key: str) -> bool:
        """Return whether there is a file at `key`."""
        info = self._try("look up", key, lambda: self._filesystem.get_file_info(self.path(key)))
        return bool(info.is_file)

    def keys(self, folder: str, suffix: str = "") -> list[str]:
        """Return the keys below `folder` that end with `suffix`, sorted; none if it is missing.

        Temporary files of interrupted writes are left out.
        """
        return list(self.sizes(folder, suffix))

    def sizes(self, folder: str, suffix: str = "") -> dict[str, int]:
        """Return the size in bytes of each key that `keys` would return, in the same order."""
        return self._sizes(folder, suffix, recursive=True)[0]

    def entries(self, folder: str, suffix: str = "") -> tuple[dict[str, int], list[str]]:
        """Return what is directly in `folder`: the size of each file, as `sizes` does, and the
        names of its folders."""
        return self._sizes(folder, suffix, recursive=False)

    def _sizes(
        self, folder: str, suffix: str, *, recursive: bool
    ) -> tuple[dict[str, int], list[str]]:
        path = self.path(folder).rstrip("/")
        selector = arrow_fs.FileSelector(path, allow_not_found=True, recursive=recursive)
        found = self._try("list", folder, lambda: self._filesystem.get_file_info(selector))
        sizes = {info.path[len(self._root) + 1 :]: info.size for info in found if info.is_file}
        kept = sorted(k for k in sizes if k.endswith(suffix) and not k.endswith(".tmp"))
        folders = [i.base_name for i in found if i.type == arrow_fs.FileType.Directory]
        return {key: sizes[key] for key in kept}, sorted(folders)

    def move(self, source: str, target: str) -> None:
        """Rename the file at `source` to `target`, replacing what was there."""
        if self._is_local:
            self._try("move", source, lambda: self._rename(source, target))
            return
        # In two steps, so that a retry after a lost response still finds its source.
        self._copy(source, target)
        self.delete(source)

    def move_many(self, targets: dict[str, str], folder: str) -> None:
        """Rename files in `folder`, {source: target}, several at the same time; then remove the
        folder with what is left in it."""
        rename = self._rename if self._is_local else self._copy
        in_parallel(
            lambda pair: self._try("move", pair[0], partial(rename, *pair)), targets.items()
        )
        self.delete_folder(folder)

    def _copy(self, source: str, target: str) -> None:
        copy = partial(self._filesystem.copy_file, self.path(source), self.path(target))
        self._try("move", source, copy)

    def _rename(self, source: str, target: str) -> None:
        Path(self.path(target)).parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.path(source), self.path(target))

    def delete(self, key: str) -> None:
        """Remove the file at `key`, if it exists."""
        self._try("remove", key, lambda: self._remove(self._filesystem.delete_file, key))

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove the files at `keys`, several at the same time."""
        in_parallel(self.delete, keys)

    def delete_folder(self, folder: str) -> None:
        """Remove `folder` and everything in it, if it exists."""
        self._try("remove", folder, lambda: self._remove(self._filesystem.delete_dir, folder))

    def _remove(self, remove: Callable[[str], None], key: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            remove(self.path(key))

    def _try(self, verb: str, key: str, action: Callable[[], Result]) -> Result:
        """Run `action` with retries; its OSError becomes a StorageError with the address."""
        with self._named(verb, key):
            return retry(action)

    @contextlib.contextmanager
    def _named(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"Cannot {verb} {self.address(key)}: {_why(error)}.") from error

    def write_table(
        self, key: str, table: pa.Table, *, rows_per_group: int | None = None
    ) -> Written:
        """Write a Parquet file and return its size and hash."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd", row_group_size=rows_per_group)
        data = sink.getvalue()
        self.write(key, data)
        return Written(len(data), hashlib.sha256(data).hexdigest())

    def read_table(
        self,
        key: str,
        columns: list[str] | None = None,
        *,
        filters: pc.Expression | None = None,
    ) -> pa.Table:
        """Read a Parquet file: all of it, some columns, or the rows that pass `filters`.

        A column inside a list is written `a.list.element.b`.
        """
        return self._try("read", key, lambda: self._parquet(key, columns, filters))

    def find_table(self, key: str, columns: list[str] | None = None) -> pa.Table | None:
        """Return what `read_table` returns, None if there is no file at `key`."""
        with self._named("read", key):
            try:
                return retry(lambda: self._parquet(key, columns, None))
            except FileNotFoundError:
                return None

    def read_row_groups(
        self, key: str, columns: list[str], spans: Sequence[tuple[int, int]]
    ) -> pa.Table:
        """Return the row groups of a Parquet file that hold rows of the spans `[start, end)`."""
        return self._try("read", key, lambda: self._row_groups(key, columns, spans))

    def _row_groups(
        self, key: str, columns: list[str], spans: Sequence[tuple[int, int]]
    ) -> pa.Table:
        with self._opened(key) as source:
            file = pq.ParquetFile(source, pre_buffer=True)
            counts = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            ends = list(itertools.accumulate(counts))
            wanted = [
                number
                for number, (end, count) in enumerate(zip(ends, counts, strict=True))
                if any(first < end and last > end - count for first, last in spans)
            ]
            return file.read_row_groups(wanted, columns=columns)

    def read_schema(self, key: str) -> pa.Schema:
        """Return the columns of a Parquet file; only its footer is read."""
        read = partial(pq.read_schema, self.path(key), filesystem=self._filesystem)
        return self._try("read", key, read)

    def num_rows(self, key: str) -> int:
        """Return how many rows a Parquet file has; only its footer is read."""
        read = partial(pq.read_metadata, self.path(key), filesystem=self._filesystem)
        return int(self._try("read", key, read).num_rows)

    def _parquet(
        self, key: str, columns: list[str] | None, filters: pc.Expression | None
    ) -> pa.Table:
        with self._opened(key) as file:
            # read_table cannot select columns inside a list, and ParquetFile.read cannot filter.
            if filters is not None or not any("." in column for column in columns or ()):
                return pq.read_table(file, columns=columns, filters=filters)
            return pq.ParquetFile(file, pre_buffer=True).read(columns=columns)

    @contextlib.contextmanager
    def _opened(self, key: str) -> Iterator[pa.NativeFile]:
        """Open a file for reading parts of it; a small object is read whole, in one request."""
        with self._filesystem.open_input_file(self.path(key)) as source:
            size = 0 if self._is_local else source.size()
            is_whole = 0 < size <= WHOLE_BYTES
            yield pa.BufferReader(source.read_at(size, 0)) if is_whole else source


def _copy_local(source: Path, path: Path) -> None:
    with source.open("rb") as content, atomic_file(path) as file:
        shutil.copyfileobj(content, file, BLOCK_BYTES)


def _mapped(path: Path) -> pa.Buffer:
    with pa.memory_map(str(path)) as file:
        return file.read_buffer()


def _read(found: arrow_fs.FileSystem, path: str) -> bytes:
    with retry(lambda: found.open_input_file(path)) as source:
        return bytes(retry(lambda: source.read_at(source.size(), 0)))


def read_bytes(uri: str) -> bytes:
    """Return the content of `uri`; OSError if it is missing or cannot be read."""
    return _read(*filesystem(uri))


def file_info(uri: str) -> arrow_fs.FileInfo:
    """Return size and date of the file at `uri` without reading it; OSError if refused."""
    found, path = filesystem(uri)
    return retry(lambda: found.get_file_info(path))


@contextlib.contextmanager
def fetched(uri: str) -> Iterator[str]:
    """Provide a local path with the content of `uri` while the block runs.

    OSError for a file that is missing, cannot be read, or changes while it is read.
    """
    found, path = filesystem(uri)
    if is_local(found):
        yield path
        return
    with temporary_folder() as folder:
        copy = folder / f"copy{Path(path).suffix}"
        with open(copy, "wb") as target:
            _download(found, path, target)
        yield str(copy)


def _download(found: arrow_fs.FileSystem, path: str, target: BinaryIO) -> None:
    """Copy block by block, each with its own retries, so that a fault does not restart the file.

    One block is one request, so it is one state of the file; several are checked.
    """
    with retry(lambda: found.open_input_file(path)) as source:
        size = source.size()
        before = retry(lambda: found.get_file_info(path)) if size > BLOCK_BYTES else None
        if before is not None and before.size != size:
            raise OSError("it changed while it was read")
        while (at := target.tell()) < size:
            block = retry(partial(source.read_at, min(BLOCK_BYTES, size - at), at))
            if not block:
                raise OSError(f"it ended after {at} of {size} bytes")
            target.write(block)
    if before is None:
        return
    after = retry(lambda: found.get_file_info(path))
    if (after.size, after.mtime_ns) != (before.size, before.mtime_ns):
        raise OSError("it changed while it was read")


@contextlib.contextmanager
def local_copy(uri: str) -> Iterator[str]:
    """`fetched`, but a file that cannot be fetched is a StorageError."""
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(fetched(uri))
        except OSError as error:
            raise StorageError(f"Cannot read {uri}: {_why(error)}.") from error
        yield path


def _why(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) else None
    return reason.lower() if reason else str(error).rstrip(".")
