"""Ways to corrupt true films on purpose: a metric that misses the fault must not judge a model.

Each function takes filmed shots and a level, 0 for no fault, and returns corrupted copies. Knows
nothing about metrics. F frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from fw_model.evaluation.metrics.retrieval import returning_shots
from fw_model.evaluation.stories.truth import FilmedShot, Pixels, StoryTruth

Shots = Sequence[FilmedShot]


def replace_shots(shots: Shots, others: Shots, count: int) -> list[FilmedShot]:
    """Replace the frames of the last `count` shots with another story's."""
    kept = len(shots) - count
    pairs = zip(shots[kept:], others[kept:], strict=True)
    return [*shots[:kept], *(replace(shot, frames=other.frames) for shot, other in pairs)]


def freeze_shots(shots: Shots, count: int) -> list[FilmedShot]:
    """Freeze the last `count` shots on their first frame."""
    kept = len(shots) - count
    still = [replace(s, frames=np.repeat(s.frames[:1], len(s.frames), 0)) for s in shots[kept:]]
    return [*shots[:kept], *still]


def rotate_hues(shots: Shots, degrees: float) -> list[FilmedShot]:
    """Rotate the hues of every second shot."""
    return [
        replace(shot, frames=np.stack([_rotated(f, degrees) for f in shot.frames]))
        if index % 2
        else shot
        for index, shot in enumerate(shots)
    ]


def shift_chunks(shots: Shots, pixels: int) -> list[FilmedShot]:
    """Move the frames of every second chunk sideways, so that they jump at chunk borders."""
    moved = []
    for shot in shots:
        frames = shot.frames.copy()
        for start, end in shot.chunk_spans[1::2]:
            frames[start:end] = np.roll(frames[start:end], pixels, axis=2)
        moved.append(replace(shot, frames=frames))
    return moved


def shift_returns(shots: Shots, story: StoryTruth, pixels: int) -> list[FilmedShot]:
    """Move the frames to the right, repeating their edge, in every shot of a place seen before."""
    border = ((0, 0), (0, 0), (pixels, 0), (0, 0))
    moved = list(shots)
    places = [shot.place_index for shot in story.shots]
    for index, shot in enumerate(shots):
        if places[index] in places[:index]:
            wider = np.pad(shot.frames, border, mode="edge")
            moved[index] = replace(shot, frames=wider[:, :, : wider.shape[2] - pixels])
    return moved


def add_flicker(shots: Shots, levels: int) -> list[FilmedShot]:
    """Darken every second frame by `levels` of 255."""
    flickering = []
    for shot in shots:
        frames = shot.frames.astype(np.int16)
        frames[1::2] -= levels
        flickering.append(replace(shot, frames=frames.clip(0, 255).astype(np.uint8)))
    return flickering


def blend_keyframes(shots: Shots, share: float) -> list[FilmedShot]:
    """Blend every shot with the best keyframe of its cache; at 1 only the keyframe is left."""
    blended = list(shots)
    for index, shot in enumerate(shots):
        if shot.cached:
            mixed = (1 - share) * shot.frames.astype(np.float32) + share * shot.cached[0].image
            blended[index] = replace(shot, frames=np.asarray(mixed.round(), np.uint8))
    return blended


def replace_chunks_with_noise(shots: Shots, share: float) -> list[FilmedShot]:
    """Replace the last chunks of each shot, `share` of them, with noise."""
    noisy = []
    rng = np.random.default_rng(0)
    for shot in shots:
        frames = shot.frames.copy()
        spans = shot.chunk_spans
        for start, end in spans[len(spans) - round(share * len(spans)) :]:
            frames[start:end] = rng.integers(0, 256, frames[start:end].shape)
        noisy.append(replace(shot, frames=frames))
    return noisy


def retrieve_wrong_places(shots: Shots, story: StoryTruth, count: int) -> list[FilmedShot]:
    """Put a keyframe of another place first in the first `count` shots that return to a place."""
    found = list(shots)
    for index in returning_shots(story)[:count]:
        place = story.shots[index].place_index
        wrong = next(i for i in range(index) if story.shots[i].place_index != place)
        first = replace(found[index].cached[0], shot=wrong)
        found[index] = replace(found[index], cached=(first, *found[index].cached[1:]))
    return found


def _rotated(frame: Pixels, degrees: float) -> Pixels:
    hsv = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + degrees) % 360
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return np.asarray((rgb * 255).round(), np.uint8)
