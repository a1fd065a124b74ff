"""Keys of a range of bytes in a file, `FILE#OFFSET,LENGTH`: many small things in one object.

Each object that is written, looked up or opened costs a request to the store, so things that are
written together share one. Knows nothing about what the bytes are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

MAX_GAP_BYTES = 256 * 1024  # reading so many bytes for nothing is faster than another request
MAX_READ_BYTES = 32 * 1024 * 1024

_RANGE = re.compile(r"(.*)#(\d+),(\d+)")


class ByteRange(NamedTuple):
    """A part of a file; `length` None stands for the whole file."""

    file: str
    offset: int = 0
    length: int | None = None

    @classmethod
    def parse(cls, key: str) -> ByteRange:
        """Return the range that a key names; a key without a range names the whole file."""
        found = _RANGE.fullmatch(key)
        return cls(found[1], int(found[2]), int(found[3])) if found else cls(key)

    @property
    def key(self) -> str:
        """The key that names this range."""
        return self.file if self.length is None else f"{self.file}#{self.offset},{self.length}"


def read_ranges(
    ranges: Sequence[ByteRange], size: int, read_at: Callable[[int, int], bytes]
) -> list[bytes]:
    """Return the content of ranges of one file of `size` bytes, in order.

    `read_at(length, offset)` is called once for ranges that are near one another.
    """
    found: dict[ByteRange, bytes] = {}
    for together in _near(sorted(set(ranges), key=lambda r: (r.offset, _end(r, size))), size):
        start, end = together[0].offset, max(_end(r, size) for r in together)
        block = read_at(end - start, start)
        for part in together:
            found[part] = block[part.offset - start : _end(part, size) - start]
    return [found[part] for part in ranges]


def _near(ranges: Sequence[ByteRange], size: int) -> Iterator[list[ByteRange]]:
    """Group ranges, given in order of their offsets, that one request should read."""
    together: list[ByteRange] = []
    for part in ranges:
        if together:
            end = max(_end(r, size) for r in together)
            is_far = part.offset - end > MAX_GAP_BYTES
            if is_far or _end(part, size) - together[0].offset > MAX_READ_BYTES:
                yield together
                together = []
        together.append(part)
    if together:
        yield together


def _end(part: ByteRange, size: int) -> int:
    return size if part.length is None else part.offset + part.length
