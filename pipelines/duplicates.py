"""Near-equal shots within and across videos: the same material met twice.

Candidates are found exactly by bands of the fingerprint: two 256-bit hashes that differ in at most
15 bits agree in at least one of 16 bands. A duplicate must then match in every keyframe, in
length and in embedding, so that two takes from one camera position are not taken for one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipelines.curation_config import FilterConfig

NUM_BANDS = 16
LENGTH_TOLERANCE = 0.05


@dataclass(frozen=True)
class ShotPrint:
    """What a shot is recognised by. `embedding` is a unit row or None."""

    shot_id: str
    duration_s: float
    fingerprints: tuple[bytes, ...]
    embedding: NDArray[np.float32] | None


def find_duplicates(shots: Iterable[ShotPrint], config: FilterConfig) -> set[str]:
    """Return the ids of shots that repeat an earlier one; the first of each kind is kept."""
    if config.duplicate_distance_bits is None:
        return set()
    bands: dict[tuple[int, bytes], list[ShotPrint]] = defaultdict(list)
    duplicates = set()
    for shot in shots:
        if not shot.fingerprints:
            continue
        keys = _bands(shot.fingerprints[len(shot.fingerprints) // 2])
        if any(is_duplicate(shot, other, config) for key in keys for other in bands[key]):
            duplicates.add(shot.shot_id)
            continue
        for key in keys:
            bands[key].append(shot)
    return duplicates


def is_duplicate(shot: ShotPrint, other: ShotPrint, config: FilterConfig) -> bool:
    """Tell whether two shots hold the same pictures for the same time."""
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


def _bands(fingerprint: bytes) -> Sequence[tuple[int, bytes]]:
    """Return the parts that a like fingerprint shares at least one of.

    Each draws its bits from all over the picture: a part that lay in a black bar would be that of
    every letterboxed shot.
    """
    bits = np.unpackbits(np.frombuffer(fingerprint, np.uint8))
    parts = np.packbits(bits[_order(len(bits))].reshape(NUM_BANDS, -1), axis=1)
    return [(number, part.tobytes()) for number, part in enumerate(parts)]


@cache
def _order(num_bits: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).permutation(num_bits)
