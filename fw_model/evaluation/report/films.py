"""The films of a scorecard's page: strips side by side, and the keyframes of returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fw_model.evaluation.metrics.retrieval import returning_shots
from fw_model.evaluation.stories.truth import FilmedShot, Pixels, StoryTruth
from fw_model.media.keyframes import encode_jpeg, select_keyframe_indices

_TILES = 3
_GAP_PX = 4
_JPEG_QUALITY = 88


@dataclass(frozen=True)
class Return:
    """A shot that returns to a place: a JPEG of it and its keyframes, and their names."""

    shot: int
    jpeg: bytes
    keyframes: Sequence[str]  # "shot 1 (0.42)", best first
    is_hit: bool


@dataclass(frozen=True)
class StoryFilms:
    """A story's films: prompts, a JPEG strip for each variant, all of them in one MP4, returns."""

    title: str
    prompts: Sequence[str]
    strips: Mapping[str, bytes]
    grid: bytes | None = None
    returns: Sequence[Return] = field(default_factory=tuple)


def film_strip(shots: Sequence[Pixels]) -> bytes:
    """Return a JPEG with a few frames of each shot [F, H, W, 3], with gaps between the shots."""
    parts: list[Pixels] = []
    for frames in shots:
        parts += [frames[i] for i in select_keyframe_indices(len(frames), _TILES)]
        parts.append(_gap(frames))
    return _jpeg(parts[:-1])


def return_strips(shots: Sequence[FilmedShot], story: StoryTruth) -> dict[int, bytes]:
    """Return a JPEG for each shot that returns to a place: the shot, then its keyframes."""
    strips = {}
    for index in returning_shots(story):
        cached = [frame.image for frame in shots[index].cached]
        if cached:
            frames = shots[index].frames
            strips[index] = _jpeg([frames[len(frames) // 2], _gap(frames), *cached])
    return strips


def _jpeg(parts: Sequence[Pixels]) -> bytes:
    return encode_jpeg(np.concatenate(parts, axis=1), quality=_JPEG_QUALITY)


def _gap(frames: Pixels) -> Pixels:
    return np.full((frames.shape[1], _GAP_PX, 3), 250, np.uint8)
