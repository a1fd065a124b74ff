"""Near-duplicate shots within and across videos: the same footage twice.

Candidates are found by bands of the fingerprint, and none is missed: two hashes that differ in at
most d bits agree in at least one of d + 1 bands. A duplicate must then match in every keyframe, in
length and in embedding, so two takes from the same camera position are not mistaken for one.

Shots are known by numbers until they are compared. `pairs_in_band` finds, in one band, the shots
that share its value with another; `groups_of` joins such pairs to groups that have no band in
common; `find_duplicates` compares the shots of a group. So bands and groups can be handled in
parallel, and the result is that of comparing all shots in one order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.config import FilterConfig

HASH_BITS = 256
LENGTH_TOLERANCE = 0.05

Bands = NDArray[np.uint64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class ShotPrint:
    """The values by which shots are compared. `embedding` is a unit row or None."""

    shot_id: str
    duration_s: float
    fingerprints: tuple[bytes, ...]
    embedding: NDArray[np.float32] | None


def pairs_in_band(numbers: Numbers, values: Bands) -> Numbers:
    """Return pairs [P, 2] of shot numbers that join all shots with equal values of a band.

    numbers [N]: of the shots; values [N]: of one of their bands.
    """
    order = np.lexsort((numbers, values))
    numbers, values = numbers[order], values[order]
    equal = values[1:] == values[:-1]
    return np.stack([numbers[:-1][equal], numbers[1:][equal]], axis=1)


def groups_of(pairs: Numbers) -> Numbers:
    """Return [N, 2], sorted: the number of each shot in the pairs [P, 2], and the smallest number
    of the shots that pairs connect it to, which names its group."""
    numbers, ends = np.unique(pairs, return_inverse=True)
    ends = ends.reshape(-1, 2)
    names = np.arange(len(numbers))
    while True:  # the names halve their distance to the smallest in every round
        smaller = names.copy()
        lowest = names[ends].min(axis=1, initial=len(numbers))
        np.minimum.at(smaller, names[ends[:, 0]], lowest)
        np.minimum.at(smaller, names[ends[:, 1]], lowest)
        smaller = smaller[smaller]
        smaller = np.minimum(smaller, smaller[names])
        if np.array_equal(smaller, names):
            return np.stack([numbers, numbers[names]], axis=1)
        names = smaller


def find_duplicates(shots: Iterable[ShotPrint], config: FilterConfig) -> set[str]:
    """Return the ids of shots that repeat an earlier shot, which is kept."""
    limit = config.duplicate_distance_bits
    if limit is None:
        return set()
    known: dict[tuple[int, int], list[ShotPrint]] = defaultdict(list)
    duplicates = set()
    for shot in shots:
        if not shot.fingerprints:
            continue
        keys = list(enumerate(bands([middle(shot.fingerprints)], limit + 1)[0].tolist()))
        if any(is_duplicate(shot, other, config) for key in keys for other in known[key]):
            duplicates.add(shot.shot_id)
            continue
        for key in keys:
            known[key].append(shot)
    return duplicates


def is_duplicate(shot: ShotPrint, other: ShotPrint, config: FilterConfig) -> bool:
    """Return whether two shots show the same footage and are about equally long."""
    if len(shot.fingerprints) != len(other.fingerprints):
        return False
    longest = max(shot.duration_s, other.duration_s)
    if abs(shot.duration_s - other.duration_s) > LENGTH_TOLERANCE * longest:
        return False
    limit = config.duplicate_distance_bits or 0
    pairs = zip(shot.fingerprints, other.fingerprints, strict=True)
    if any(distance_bits(a, b) > limit for a, b in pairs):
        return False
    if shot.embedding is None or other.embedding is None:
        return True
    return float(shot.embedding @ other.embedding) >= config.duplicate_similarity


def distance_bits(a: bytes, b: bytes) -> int:
    """Return in how many bits two fingerprints differ."""
    return (int.from_bytes(a) ^ int.from_bytes(b)).bit_count()


def middle(fingerprints: Sequence[bytes]) -> bytes:
    """Return the fingerprint by which candidates are found."""
    return fingerprints[len(fingerprints) // 2]


def bands(fingerprints: Sequence[bytes], number: int) -> Bands:
    """Return numbers [N, number], one for each band of each fingerprint; equal bands give equal
    numbers.

    The bits of a band come from the whole picture: a band inside a black bar would be the same for
    every letterboxed shot.
    """
    rows = np.frombuffer(b"".join(fingerprints), np.uint8).reshape(len(fingerprints), -1)
    bits = np.unpackbits(rows, axis=1)[:, np.random.default_rng(0).permutation(HASH_BITS)]
    parts = [_number(part) for part in np.array_split(bits, number, axis=1)]
    return np.stack(parts, axis=1)


def _number(bits: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return bits [N, n] as numbers [N].

    More than 64 bits are hashed. Different bands may then give the same number, which only adds a
    needless candidate; equal bands always give the same number.
    """
    packed = np.packbits(bits, axis=1)
    padded = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))
    words = np.ascontiguousarray(padded).view(np.uint64)  # [N, words]
    odd = np.random.default_rng(1).integers(0, 1 << 63, words.shape[1], np.uint64) * 2 + 1
    odd[0] = 1
    mixed: NDArray[np.uint64] = (words * odd).sum(axis=1, dtype=np.uint64)
    return mixed
