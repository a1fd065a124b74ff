"""What a story asked for, and the film that came of it: what every metric reads.

F frames, H x W pixels. Knows nothing of how films are made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in fractions of the frame."""


@dataclass(frozen=True)
class FigureTruth:
    """A character that a prompt asks for, by a name that no other in the story has.

    On toy films the name is the kind of figure; `action` is None where only words tell it.
    """

    kind: str
    action: str | None = None


@dataclass(frozen=True)
class ShotTruth:
    """What a shot must show. Shots with the same `place_index` share a place.

    Suites of words alone know the prompt, who is in it and which shots share a place; the other
    fields are None there. A camera is "still" or pans; `zoom` enlarges the place on screen.
    """

    prompt: str
    place: str | None = None
    place_index: int = 0
    light: str | None = None
    scale: str | None = None
    figures: tuple[FigureTruth, ...] = ()
    camera: str | None = None
    zoom: float = 1.0


@dataclass(frozen=True)
class StoryTruth:
    """A story to be filmed. `seed` is also the seed of its generation."""

    seed: int
    shots: tuple[ShotTruth, ...]

    @property
    def is_toy(self) -> bool:
        """Whether what is seen can be held against what is true: every shot's place is known."""
        return all(shot.place is not None for shot in self.shots)


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
