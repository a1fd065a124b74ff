"""Content-addressed blobs on any pyarrow filesystem (local, s3://, gs://).

A blob is written before any row points at it and never changes, so readers need no lock and a
crash leaves at worst an unused blob. Knows nothing of the database.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from fw_model.errors import ConfigError, StorageError
from fw_model.files.atomic import write_atomic
from serve.errors import FullError

PARTIAL_SUFFIX = ".tmp"  # of files that are not complete


@dataclass(frozen=True)
class StoredBlob:
    """A blob that was written and that a row will point at."""

    key: str
    num_bytes: int
    media_type: str


class BlobStore:
    """Stores bytes under the SHA-256 of their content."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        try:
            if "://" in uri:
                self._filesystem, root = fs.FileSystem.from_uri(uri)
            else:
                self._filesystem, root = fs.LocalFileSystem(), str(Path(uri).resolve())
        except (pa.ArrowInvalid, OSError) as error:
            raise ConfigError(
                f"serving.blobs_uri {uri!r} cannot be opened: {error}; give a path, s3:// or gs://."
            ) from error
        self._root = root.rstrip("/")
        self._local = isinstance(self._filesystem, fs.LocalFileSystem)

    def put(self, content: bytes, media_type: str) -> StoredBlob:
        """Store `content` durably; storing it again resets its age."""
        key = hashlib.sha256(content).hexdigest()
        with _storage_errors(f"Cannot write a blob of {len(content)} bytes under {self.uri}"):
            if self._local:
                self._put_local(self._path(key), content)
            else:
                with self._filesystem.open_output_stream(self._path(key)) as stream:
                    stream.write(content)
        return StoredBlob(key, len(content), media_type)

    def get(self, key: str) -> bytes:
        """Return the bytes of `key`; StorageError if they are missing or damaged."""
        with (
            _storage_errors(f"Cannot read blob {key[:12]} of {self.uri}"),
            self._filesystem.open_input_stream(self._path(key)) as stream,
        ):
            content: bytes = stream.read()
        if hashlib.sha256(content).hexdigest() != key:
            raise StorageError(
                f"Blob {key[:12]} of {self.uri} is damaged: its content does not match its hash;"
                " restore it from a backup or regenerate its shot."
            )
        return content

    def list_older(self, than: float) -> list[str]:
        """Keys of blobs last written before the time `than`."""
        selector = fs.FileSelector(self._root, recursive=True, allow_not_found=True)
        with _storage_errors(f"Cannot list the blobs of {self.uri}"):
            found = self._filesystem.get_file_info(selector)
        return [
            info.base_name
            for info in found
            if info.type == fs.FileType.File
            and info.mtime is not None
            and info.mtime.timestamp() < than
            and not info.base_name.endswith(PARTIAL_SUFFIX)
        ]

    def delete_partial(self, than: float) -> None:
        """Delete incomplete files that killed writers left before the time `than`."""
        if not self._local:
            return  # an object appears whole or not at all
        with _storage_errors(f"Cannot delete incomplete blobs of {self.uri}"):
            for path in Path(self._root).glob(f"*/*{PARTIAL_SUFFIX}"):
                with contextlib.suppress(FileNotFoundError):  # its writer was slow, not killed
                    if path.stat().st_mtime < than:
                        path.unlink()

    def delete(self, key: str) -> None:
        """Delete a blob if it exists."""
        with (
            _storage_errors(f"Cannot delete blob {key[:12]}"),
            contextlib.suppress(FileNotFoundError),
        ):
            self._filesystem.delete_file(self._path(key))

    def delete_older(self, key: str, than: float) -> bool:
        """Delete a blob unless it was written after the time `than`; whether it was deleted."""
        path = self._path(key)
        with _storage_errors(f"Cannot delete blob {key[:12]}"):
            if not self._local:
                info = self._filesystem.get_file_info(path)
                is_old = info.mtime is not None and info.mtime.timestamp() < than
                if is_old:
                    self.delete(key)
                return is_old
            # Renamed first: a writer that stores the same key meanwhile makes a new file.
            aside = f"{path}.{uuid.uuid4().hex}{PARTIAL_SUFFIX}"
            try:
                os.rename(path, aside)
                is_old = os.stat(aside).st_mtime < than
                if is_old:
                    os.unlink(aside)
                else:
                    os.rename(aside, path)
            except FileNotFoundError:
                return False
            return is_old

    def check_writable(self) -> None:
        """Raise StorageError if nothing can be stored."""
        self.delete(self.put(b"probe", "text/plain").key)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key[:2]}/{key}"

    @staticmethod
    def _put_local(path: str, content: bytes) -> None:
        write_atomic(Path(path), content)
        descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(descriptor)  # so that the rename survives a power cut
        finally:
            os.close(descriptor)


@contextmanager
def _storage_errors(what: str) -> Iterator[None]:
    """Turn an OSError into a StorageError that begins with `what`."""
    try:
        yield
    except OSError as error:
        raise storage_error(what, error) from error


def storage_error(what: str, error: Exception) -> StorageError:
    """The error to raise for one from the system or FFmpeg; FullError for a full disk."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return FullError(f"{what}: the disk is full; free some space.")
    return StorageError(f"{what}: {getattr(error, 'strerror', None) or error}.")
