"""What a story asks for, and the film made from it: the input of every metric.

F frames, H x W pixels. Knows nothing about how films are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fw_model.media.keyframes import select_keyframe_indices

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in fractions of the frame."""


@dataclass(frozen=True)
class FigureTruth:
    """A character that a prompt asks for, by a name that is unique in the story.

    In toy films the name is the kind of figure. `action` is None in written stories.
    """

    kind: str
    action: str | None = None


@dataclass(frozen=True)
class ShotTruth:
    """What a shot must show. Shots with the same `place_index` share a place.

    A shot of a written story has a prompt, figures and a place index; its other fields are None. A
    camera is "still" or pans; `zoom` enlarges the place on screen.
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
    """A story to film. `seed` is also the seed of its generation."""

    seed: int
    shots: tuple[ShotTruth, ...]

    @property
    def is_toy(self) -> bool:
        """Whether the toy judge can check it: every shot's place is known."""
        return all(shot.place is not None for shot in self.shots)


@dataclass(frozen=True)
class CachedFrame:
    """A keyframe that the shot cache gave to a shot: its origin, its score and its pixels."""

    shot: int
    frame: int
    score: float
    image: Pixels


@dataclass(frozen=True)
class FilmedShot:
    """Frames [F, H, W, 3] of a shot, the first frame of each chunk, and its cached keyframes."""

    frames: Pixels
    chunk_starts: tuple[int, ...]
    cached: tuple[CachedFrame, ...] = ()

    @property
    def chunk_spans(self) -> list[tuple[int, int]]:
        """Frames [start, end) of each chunk."""
        return list(zip(self.chunk_starts, (*self.chunk_starts[1:], len(self.frames)), strict=True))


def sampled_frames(shots: Sequence[FilmedShot], per_shot: int) -> list[Pixels]:
    """Return `per_shot` evenly spaced frames [H, W, 3] of each shot, or all of a shorter shot."""
    return [
        shot.frames[index]
        for shot in shots
        for index in select_keyframe_indices(len(shot.frames), per_shot)
    ]
