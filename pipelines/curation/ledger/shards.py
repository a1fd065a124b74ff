"""Shards: equal parts of all videos, by a hash of their addresses.

A shard is small enough for one task, and everything about a video (its rows, shots, scenes and
captions) belongs to the shard of its address. So each shard can be listed, compared, assembled and
counted by itself, and memory does not grow with the number of videos. The numbers of shards are
powers of two, so a shard of an earlier, smaller run holds whole shards of a later one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

VIDEOS_PER_SHARD = 4096
MAX_SHARDS = 4096
HASH_BITS = 32

_NAME = re.compile(r"(\d{5})-of-(\d{5})")


@dataclass(frozen=True, order=True)
class Shard:
    """Shard `index` of `count`; the only one by default."""

    index: int = 0
    count: int = 1

    @property
    def name(self) -> str:
        """The shard's folder in a ledger; the only shard has none of its own."""
        return f"{self.index:05d}-of-{self.count:05d}" if self.count > 1 else ""

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard named in `text`, such as the key of a file in its folder."""
        found = _NAME.search(text)
        return cls(int(found[1]), int(found[2])) if found else cls()

    def within(self, count: int) -> Shard:
        """Return the shard of `count`, at most as many as these, that holds this one."""
        return Shard(self.index * count // self.count, count)


def shards_of(count: int) -> list[Shard]:
    """Return all shards of `count`."""
    return [Shard(index, count) for index in range(count)]


def num_shards(num_videos: int, earlier: Iterable[int] = ()) -> int:
    """Return how many shards a run over so many videos has: no fewer than `earlier` runs had."""
    wanted = 1
    while wanted < MAX_SHARDS and wanted * VIDEOS_PER_SHARD < num_videos:
        wanted *= 2
    return max([wanted, *earlier])


def hash_of(uri: str) -> int:
    """Return the number in [0, 2^32) that decides the shard of a video."""
    return int.from_bytes(hashlib.sha256(uri.encode()).digest()[:4])


def shard_of(uri: str, count: int) -> Shard:
    """Return the shard of the video at `uri`."""
    return Shard(hash_of(uri) * count >> HASH_BITS, count)
