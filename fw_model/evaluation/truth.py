"""What a story asked for, and the film that came of it: what every metric reads.

F frames, H x W pixels. Knows nothing of how films are made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class FigureTruth:
    """A character that a prompt asks for. Within a story no two are of one kind."""

    kind: str
    action: str


@dataclass(frozen=True)
class ShotTruth:
    """What a shot must show. Shots with the same `place_index` share a place."""

    prompt: str
    place: str
    place_index: int
    light: str
    scale: str
    figures: tuple[FigureTruth, ...]


@dataclass(frozen=True)
class StoryTruth:
    """A story to be filmed. `seed` is also the seed of its generation."""

    seed: int
    shots: tuple[ShotTruth, ...]


@dataclass(frozen=True)
class CachedFrame:
    """A keyframe that the shot cache gave to a shot: whence, how well it fitted, its pixels."""

    shot: int
    frame: int
    score: float
    image: Pixels


@dataclass(frozen=True)
class FilmedShot:
    """Frames [F, H, W, 3] of a shot, the first frame of each chunk, what its cache held."""

    frames: Pixels
    chunk_starts: tuple[int, ...]
    cached: tuple[CachedFrame, ...] = ()

    @property
    def chunk_spans(self) -> list[tuple[int, int]]:
        """Frames [start, end) of each chunk."""
        return list(zip(self.chunk_starts, (*self.chunk_starts[1:], len(self.frames)), strict=True))
