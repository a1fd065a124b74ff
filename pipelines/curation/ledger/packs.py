"""Packs: the keyframes of the videos that are committed together, in one object.

The address of a keyframe is a range of bytes in its pack, which `Store.read` and `Store.read_many`
understand. A pack is named after its content. Knows nothing about videos or rows.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection

from pipelines.storage.byte_ranges import ByteRange
from pipelines.storage.store import Store

MAX_PACK_BYTES = 32 * 1024 * 1024


class PackWriter:
    """Collects pictures by their hash and writes them together. Threads may add at the same time.

    Pictures beyond MAX_PACK_BYTES are written at once, so that a long video needs little memory.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: dict[str, bytes] = {}
        self._num_bytes = 0
        self._written: dict[str, str] = {}

    def add(self, sha256: str, jpeg: bytes) -> None:
        """Keep a picture until it is written."""
        with self._lock:
            if sha256 in self._waiting or sha256 in self._written:
                return
            self._waiting[sha256] = jpeg
            self._num_bytes += len(jpeg)
            if self._num_bytes >= MAX_PACK_BYTES:
                self._write(self._waiting)

    def waiting(self, sha256: str) -> bytes | None:
        """Return a picture that is not written yet."""
        return self._waiting.get(sha256)

    def close(self, wanted: Collection[str]) -> dict[str, str]:
        """Write those of the pictures that are wanted, and forget all; return their keys by
        hash."""
        with self._lock:
            self._write({name: self._waiting[name] for name in wanted if name in self._waiting})
            keys = {name: self._written[name] for name in wanted}
            self._written = {}
            return keys

    def _write(self, pictures: dict[str, bytes]) -> None:
        if pictures:
            data = b"".join(pictures.values())
            name = hashlib.sha256(data).hexdigest()
            file = f"media/{name[:2]}/{name}.pack"
            self._store.write(file, data)
            offset = 0
            for sha256, jpeg in pictures.items():
                self._written[sha256] = ByteRange(file, offset, len(jpeg)).key
                offset += len(jpeg)
        self._waiting, self._num_bytes = {}, 0
