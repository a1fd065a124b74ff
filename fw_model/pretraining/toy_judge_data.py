"""Clips of labelled shots for the toy judge, degraded the way generated films are.

B clips, F frames, K kinds of figure. Knows nothing about where films and labels come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fw_model.evaluation.judges.toy_judge_net import Vocabulary
from fw_model.pretraining.shot_library import ShotLibrary, to_tensor

Pixels = NDArray[np.uint8]

_ERASED_PROBABILITY = 0.12
_SMEARED_PROBABILITY = 0.04


@dataclass(frozen=True)
class LabelledFigure:
    """A figure of a shot; hues in degrees, boxes [F, 4] in fractions of the frame."""

    kind: str
    action: str
    body_hue_deg: float
    trim_hue_deg: float
    boxes: NDArray[np.float32]


@dataclass(frozen=True)
class LabelledShot:
    """The labels of one shot; labels are in the order of their library's shots."""

    place: str
    light: str
    scale: str
    figures: tuple[LabelledFigure, ...]


@dataclass(frozen=True)
class ToyJudgeBatch:
    """B clips and their labels; the labels of a figure count only where `present` is 1."""

    frames: Tensor  # [B, 3, F, H, W] in [-1, 1]
    place: Tensor  # [B] indices
    light: Tensor  # [B]
    scale: Tensor  # [B]
    present: Tensor  # [B, K] 0 or 1
    action: Tensor  # [B, K] indices
    body_hue: Tensor  # [B, K, 2] cosine, sine
    trim_hue: Tensor  # [B, K, 2]
    boxes: Tensor  # [B, F, K, 4]


def vocabulary_of(shots: Sequence[LabelledShot]) -> Vocabulary:
    """Return all words that occur in `shots`, sorted."""
    figures = [figure for shot in shots for figure in shot.figures]
    return Vocabulary(
        kinds=tuple(sorted({figure.kind for figure in figures})),
        places=tuple(sorted({shot.place for shot in shots})),
        lights=tuple(sorted({shot.light for shot in shots})),
        scales=tuple(sorted({shot.scale for shot in shots})),
        actions=tuple(sorted({figure.action for figure in figures})),
    )


def sample_batch(
    library: ShotLibrary,
    labels: Sequence[LabelledShot],
    vocabulary: Vocabulary,
    rng: np.random.Generator,
    *,
    batch_size: int,
    num_frames: int,
) -> ToyJudgeBatch:
    """Sample clips of `num_frames` from shots that are long enough; mirror and degrade them."""
    usable = library.with_frames(num_frames)
    clips, truths = [], []
    for _ in range(batch_size):
        shot, start = library.random_clip(usable, num_frames, rng)
        clip = np.array(library.clip(shot, start, num_frames))
        truth = _truth_arrays(labels[shot], vocabulary, start, num_frames)
        if rng.random() < 0.5:
            clip = clip[:, :, ::-1]
            truth["boxes"] = np.stack(
                [1 - truth["boxes"][..., 2], truth["boxes"][..., 1],
                 1 - truth["boxes"][..., 0], truth["boxes"][..., 3]], axis=-1,
            )  # fmt: skip
        clip = _without_some_figures(np.ascontiguousarray(clip), truth, rng)
        clips.append(degraded(clip, rng))
        truths.append(truth)
    tensors = {name: torch.from_numpy(np.stack([t[name] for t in truths])) for name in truths[0]}
    return ToyJudgeBatch(frames=to_tensor(clips), **tensors)


def degraded(clip: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a clip [F, H, W, 3] with blur, ghosts of the frame before, noise, or other light."""
    frames = clip.astype(np.float32)
    height, width = clip.shape[1:3]
    if rng.random() < 0.4:
        factor = rng.uniform(1.3, 2.6)
        small = (max(8, round(width / factor)), max(8, round(height / factor)))
        frames = np.stack(
            [
                cv2.resize(cv2.resize(f, small, interpolation=cv2.INTER_AREA), (width, height))
                for f in frames
            ]
        )
    if rng.random() < 0.2:
        share = rng.uniform(0.1, 0.5)
        frames[1:] = (1 - share) * frames[1:] + share * frames[:-1]
    if rng.random() < 0.4:
        frames = (frames - 128) * rng.uniform(0.85, 1.1) + 128 + rng.uniform(-10, 10)
    if rng.random() < 0.4:
        # Patches of a few pixels, like a decoder's errors, and grain of one pixel.
        coarse = rng.normal(size=(len(frames), height // 4, width // 4, 3)).astype(np.float32)
        grown = np.stack([cv2.resize(c, (width, height)) for c in coarse])
        grain = rng.normal(size=frames.shape).astype(np.float32)
        frames = frames + rng.uniform(0, 9) * grown + rng.uniform(0, 6) * grain
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def _truth_arrays(
    shot: LabelledShot, vocabulary: Vocabulary, start: int, num_frames: int
) -> dict[str, NDArray[np.generic]]:
    kinds = len(vocabulary.kinds)
    present = np.zeros(kinds, np.float32)
    action = np.zeros(kinds, np.int64)
    body, trim = np.zeros((kinds, 2), np.float32), np.zeros((kinds, 2), np.float32)
    boxes = np.zeros((num_frames, kinds, 4), np.float32)
    for figure in shot.figures:
        kind = vocabulary.kinds.index(figure.kind)
        present[kind] = 1
        action[kind] = vocabulary.actions.index(figure.action)
        body[kind], trim[kind] = _direction(figure.body_hue_deg), _direction(figure.trim_hue_deg)
        boxes[:, kind] = figure.boxes[start : start + num_frames]
    return {
        "place": np.array(vocabulary.places.index(shot.place)),
        "light": np.array(vocabulary.lights.index(shot.light)),
        "scale": np.array(vocabulary.scales.index(shot.scale)),
        "present": present,
        "action": action,
        "body_hue": body,
        "trim_hue": trim,
        "boxes": boxes,
    }


def _without_some_figures(
    clip: Pixels, truth: dict[str, NDArray[np.generic]], rng: np.random.Generator
) -> Pixels:
    """Erase or smear some figures: the toy judge must be able to report that one is missing."""
    for kind in np.flatnonzero(truth["present"]):
        chance = rng.random()
        if chance >= _ERASED_PROBABILITY + _SMEARED_PROBABILITY:
            continue
        for frame, box in zip(clip, truth["boxes"][:, kind], strict=True):
            _erase(frame, box, smear=chance < _SMEARED_PROBABILITY)
        truth["present"][kind] = 0
    return clip


def _erase(frame: Pixels, box: NDArray[np.generic], *, smear: bool) -> None:
    """Fill a box row by row from the pixels left and right of it, or blur it past recognition."""
    height, width = frame.shape[:2]
    x0, y0, x1, y1 = np.asarray(box, np.float64) * (width, height, width, height)
    left, right = max(0, int(x0) - 3), min(width, int(np.ceil(x1)) + 3)
    top, bottom = max(0, int(y0) - 3), min(height, int(np.ceil(y1)) + 2)
    region = frame[top:bottom, left:right]
    if region.size == 0:
        return
    size = (right - left, bottom - top)
    if smear:
        tiny = cv2.resize(region, (3, 3), interpolation=cv2.INTER_AREA)
        frame[top:bottom, left:right] = cv2.resize(tiny, size, interpolation=cv2.INTER_CUBIC)
        return
    columns = [frame[top:bottom, c].astype(np.float32) for c in (left - 1, right) if 0 <= c < width]
    if not columns:  # a close-up from edge to edge has no pixels beside it
        tiny = cv2.resize(region, (1, 4), interpolation=cv2.INTER_AREA)
        frame[top:bottom, left:right] = cv2.resize(tiny, size)
        return
    way = np.linspace(0, 1, right - left, dtype=np.float32)[None, :, None]
    filled = (1 - way) * columns[0][:, None] + way * columns[-1][:, None]
    frame[top:bottom, left:right] = np.rint(filled).astype(np.uint8)


def _direction(hue_deg: float) -> tuple[float, float]:
    angle = np.radians(hue_deg)
    return float(np.cos(angle)), float(np.sin(angle))
