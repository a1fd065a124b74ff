"""Faults put into true films on purpose: a measure that does not see them must judge no model.

Each fault takes filmed shots and a level, 0 for none, and returns spoiled copies. Knows nothing of
measures. F frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from fw_model.evaluation.metrics.retrieval import returning_shots
from fw_model.evaluation.stories.truth import FilmedShot, Pixels, StoryTruth

Shots = Sequence[FilmedShot]


def strangers(shots: Shots, others: Shots, count: int) -> list[FilmedShot]:
    """Put another story's frames into the last `count` shots."""
    kept = len(shots) - count
    return [
        shot if index < kept else replace(shot, frames=other.frames)
        for index, (shot, other) in enumerate(zip(shots, others, strict=True))
    ]


def frozen(shots: Shots, count: int) -> list[FilmedShot]:
    """Let the last `count` shots stand still on their first frame."""
    kept = len(shots) - count
    return [
        shot if i < kept else replace(shot, frames=np.repeat(shot.frames[:1], len(shot.frames), 0))
        for i, shot in enumerate(shots)
    ]


def hue_turned(shots: Shots, degrees: float) -> list[FilmedShot]:
    """Turn the colours of every second shot on the hue circle."""
    return [
        replace(shot, frames=np.stack([_turned(f, degrees) for f in shot.frames]))
        if index % 2
        else shot
        for index, shot in enumerate(shots)
    ]


def jumping_borders(shots: Shots, pixels: int) -> list[FilmedShot]:
    """Move the pictures of every second chunk sideways, so that borders jump."""
    moved = []
    for shot in shots:
        frames = shot.frames.copy()
        for start, end in shot.chunk_spans[1::2]:
            frames[start:end] = np.roll(frames[start:end], pixels, axis=2)
        moved.append(replace(shot, frames=frames))
    return moved


def moved_sideways(shots: Shots, story: StoryTruth, pixels: int) -> list[FilmedShot]:
    """Move the pictures to the right, their edge drawn out, wherever a place is not new."""
    border = ((0, 0), (0, 0), (pixels, 0), (0, 0))
    moved = list(shots)
    places = [shot.place_index for shot in story.shots]
    for index, shot in enumerate(shots):
        if places[index] in places[:index]:
            wider = np.pad(shot.frames, border, mode="edge")
            moved[index] = replace(shot, frames=wider[:, :, : wider.shape[2] - pixels])
    return moved


def flickering(shots: Shots, levels: int) -> list[FilmedShot]:
    """Darken every second frame by so many levels of 255."""
    flickers = []
    for shot in shots:
        frames = shot.frames.astype(np.int16)
        frames[1::2] -= levels
        flickers.append(replace(shot, frames=frames.clip(0, 255).astype(np.uint8)))
    return flickers


def copied(shots: Shots, share: float) -> list[FilmedShot]:
    """Fade every shot towards the best keyframe of its cache: all of it at 1."""
    return [
        replace(shot, frames=_mixed(shot.frames, shot.cached[0].image, share))
        if shot.cached
        else shot
        for shot in shots
    ]


def falling_apart(shots: Shots, share: float) -> list[FilmedShot]:
    """Turn that share of each shot's chunks, the last ones, into noise."""
    broken = []
    rng = np.random.default_rng(0)
    for shot in shots:
        frames = shot.frames.copy()
        spans = shot.chunk_spans
        for start, end in spans[len(spans) - round(share * len(spans)) :]:
            frames[start:end] = rng.integers(0, 256, frames[start:end].shape)
        broken.append(replace(shot, frames=frames))
    return broken


def misfiled(shots: Shots, story: StoryTruth, count: int) -> list[FilmedShot]:
    """Let the first `count` returns to a place find a keyframe of another place first."""
    found = list(shots)
    for index in returning_shots(story)[:count]:
        place = story.shots[index].place_index
        wrong = next(i for i in range(index) if story.shots[i].place_index != place)
        first = replace(found[index].cached[0], shot=wrong)
        found[index] = replace(found[index], cached=(first, *found[index].cached[1:]))
    return found


def _turned(frame: Pixels, degrees: float) -> Pixels:
    hsv = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + degrees) % 360
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return np.asarray((rgb * 255).round(), np.uint8)


def _mixed(frames: Pixels, image: Pixels, share: float) -> Pixels:
    mixed = (1 - share) * frames.astype(np.float32) + share * image
    return np.asarray(mixed.round(), np.uint8)
