"""Near-duplicate shots within and across videos: the same footage twice.

Candidates are found by bands of the fingerprint, and none is missed: two hashes that differ in at
most d bits agree in at least one of d + 1 bands. A duplicate must then match in every keyframe, in
length and in embedding, so two takes from the same camera position are not mistaken for one.

Two passes keep memory small for millions of shots: `DuplicateCandidates` keeps a few numbers per
shot and finds the shots that share a band with another; `find_duplicates` compares only these.
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
PRINTS_AT_ONCE = 4096

Bands = NDArray[np.uint64]


@dataclass(frozen=True)
class ShotPrint:
    """The values by which shots are compared. `embedding` is a unit row or None."""

    shot_id: str
    duration_s: float
    fingerprints: tuple[bytes, ...]
    embedding: NDArray[np.float32] | None


class DuplicateCandidates:
    """Finds shots that share a band of their middle fingerprint; keeps 8 (d + 1) bytes per shot."""

    def __init__(self, max_distance_bits: int) -> None:
        self._num_bands = max_distance_bits + 1
        self._videos: list[str] = []
        self._waiting: list[bytes] = []  # fingerprints not yet split into bands
        self._bands: list[Bands] = []
        self._places: list[NDArray[np.int32]] = []  # [shots, (video, position in it)]

    def add(self, video: str, shots: Sequence[Sequence[bytes]]) -> None:
        """Add the shots of a video, each with the fingerprints of its keyframes."""
        printed = [i for i, prints in enumerate(shots) if prints]
        if not printed:
            return
        self._waiting += [middle(shots[i]) for i in printed]
        if len(self._waiting) >= PRINTS_AT_ONCE:
            self._split_waiting()
        places = [(len(self._videos), i) for i in printed]
        self._places.append(np.array(places, np.int32))
        self._videos.append(video)

    def found(self) -> dict[str, set[int]]:
        """Return the candidates: video -> the positions of its shots."""
        candidates: dict[str, set[int]] = defaultdict(set)
        self._split_waiting()
        if self._bands:
            places = np.concatenate(self._places)
            for video, shot in places[_shared(np.concatenate(self._bands))].tolist():
                candidates[self._videos[video]].add(shot)
        return dict(candidates)

    def _split_waiting(self) -> None:
        if self._waiting:
            self._bands.append(bands(self._waiting, self._num_bands))
            self._waiting = []


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


def _shared(rows: Bands) -> NDArray[np.bool_]:
    """Return which rows [N, number] equal another row in at least one column."""
    shared = np.zeros(len(rows), bool)
    for column in rows.T:
        order = np.argsort(column, kind="stable")
        equal = column[order[1:]] == column[order[:-1]]
        shared[order[1:][equal]] = True
        shared[order[:-1][equal]] = True
    return shared
