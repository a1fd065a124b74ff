"""Single shots of any footage, as the small frames that a shot detector sees.

A shot is a stretch of a video in which nothing is cut, or a picture that a camera moves over. Knows
nothing about transitions. n: frames; H x W: the detector's grid.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fw_model.errors import DataError
from pipelines.curation.analysis.frame_sampling import BATCH_FRAMES, GridSampler
from pipelines.curation.analysis.video_stream import check_stream
from pipelines.curation.config import DecodeConfig
from pipelines.curation.detectors.base import GRID_HEIGHT, GRID_WIDTH
from pipelines.pretraining.takes import VIDEO_SUFFIXES
from pipelines.toyfilms.write import read_truth, truth_path

Floats = NDArray[np.float32]

TRUTH_FILE = "GROUND_TRUTH.json"
MIN_FRAMES = 8
PICTURE_SUFFIXES = {".png", ".jpg", ".jpeg"}
PICTURE_WEIGHT = 2.5  # of all pictures together, where one video weighs 1


@dataclass(frozen=True)
class Shot:
    """A shot of `source`: uint8 frames [n, 3, H, W], or a picture [h, w, 3] to move over."""

    source: str
    frames: NDArray[np.uint8]

    @property
    def is_picture(self) -> bool:
        """Whether this is a picture."""
        return self.frames.ndim == 3


class Footage:
    """Shots to sample from; each source is as likely as any other, however many shots it has."""

    def __init__(self, shots: Sequence[Shot]) -> None:
        self._shots = list(shots)
        counts = Counter(shot.source for shot in self._shots)
        num_pictures = sum(shot.is_picture for shot in self._shots)
        weights = np.array(
            [
                PICTURE_WEIGHT / num_pictures if shot.is_picture else 1.0 / counts[shot.source]
                for shot in self._shots
            ]
        )
        self._cumulative = np.cumsum(weights) / weights.sum()

    def __len__(self) -> int:
        return len(self._shots)

    def sample(self, rng: np.random.Generator, *, other_than: str = "") -> Shot:
        """Return a shot, mostly of another source than the one named."""
        while True:
            shot = self._shots[int(np.searchsorted(self._cumulative, rng.random()))]
            if shot.source != other_than or rng.random() > 0.6:
                return shot


def load_footage(folder: Path) -> Footage:
    """Load the videos and pictures below `folder`; DataError if there are none.

    The cuts of a video come from the truth beside it (a toy film), or from the GROUND_TRUTH.json of
    its folder; a video that neither knows is taken as one shot.
    """
    shots = [shot for path in sorted(Path(folder).rglob("*")) for shot in _shots_of(path)]
    if not shots:
        raise DataError(
            f"{folder} holds no video of {MIN_FRAMES} frames and no picture; give a folder of "
            "footage to make transitions from."
        )
    return Footage(shots)


def _shots_of(path: Path) -> Iterator[Shot]:
    if path.suffix.lower() in PICTURE_SUFFIXES:
        picture = cv2.imread(str(path))
        if picture is not None:
            yield Shot(f"picture {path.name}", np.asarray(picture, np.uint8))
        return
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        return
    cuts, spans = _truth(path)
    frames = sample_planes(path)
    ends = [*cuts, len(frames)]
    for start, end in zip([0, *cuts], ends, strict=True):
        for first, last in _outside(start, end, spans):
            if last - first >= MIN_FRAMES:
                yield Shot(path.name, frames[first:last])


def _truth(path: Path) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the cuts of a video and its spans `[start, end)` that are no part of a shot."""
    if truth_path(path).is_file():
        truth = read_truth(path)
        return truth["cuts"], [(s["start_frame"], s["end_frame"]) for s in truth["gradual"]]
    judged = path.parent / TRUTH_FILE
    known = json.loads(judged.read_text(encoding="utf-8")) if judged.is_file() else {}
    found = known.get(path.name, {})
    spans = [*found.get("gradual", []), *found.get("ambiguous", [])]
    return found.get("cuts", []), [(first, last + 1) for first, last in spans]


def _outside(start: int, end: int, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the parts of `[start, end)` that lie in none of the spans."""
    for first, last in sorted(spans):
        if first < end and last > start:
            yield start, max(start, first)
            start = max(start, last)
    yield start, end


def sample_planes(path: Path) -> NDArray[np.uint8]:
    """Decode a video into uint8 [n, 3, H, W], as analysis samples it."""
    import av

    sampler = GridSampler()
    batches = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        check_stream(stream, DecodeConfig())
        for frame in container.decode(stream):
            sampler.add(frame)
            if sampler.num_frames == BATCH_FRAMES:
                batches.append(sampler.take())
    if sampler.num_frames:
        batches.append(sampler.take())
    empty = np.empty((0, 3, GRID_HEIGHT, GRID_WIDTH), np.uint8)
    return np.concatenate([empty, *batches])


def take(shot: Shot, count: int, rng: np.random.Generator, *, is_fast: bool = False) -> Floats:
    """Return `count` frames of a shot, filmed anew: float [count, 3, H, W].

    Another framing, speed, direction, grade and hand make many shots of one.
    """
    if shot.is_picture:
        frames = _move_over(shot.frames, count, rng, is_fast=is_fast)
    else:
        frames = _reframe(_retime(shot.frames, count, rng, is_fast=is_fast), rng)
    if rng.random() < 0.5:
        frames = frames[..., ::-1]
    frames = frames.astype(np.float32)
    if rng.random() < 0.4:
        frames[:, 0] = (frames[:, 0] - 128) * rng.uniform(0.5, 1.3) + 128 + rng.normal(0, 20)
        tint = rng.normal(0, 6, (1, 2, 1, 1))
        frames[:, 1:] = (frames[:, 1:] - 128) * rng.uniform(0.2, 1.6) + 128 + tint
    if rng.random() < 0.12:
        first, last = rng.uniform(0.3, 1, 2)
        frames[:, 0] *= np.linspace(first, last, count)[:, None, None]
    if rng.random() < (0.25 if is_fast else 0.12) and count >= 8:
        _whip(frames, rng)
    return np.ascontiguousarray(np.clip(frames, 0, 255), np.float32)


def resized(frames: Floats | NDArray[np.uint8], height: int, width: int) -> Floats:
    """Return frames [n, 3, H, W] at another size."""
    planes = frames.reshape(-1, *frames.shape[2:]).astype(np.float32)
    scaled = [cv2.resize(p, (width, height), interpolation=cv2.INTER_AREA) for p in planes]
    return np.stack(scaled).reshape(len(frames), 3, height, width).astype(np.float32)


def _retime(
    frames: NDArray[np.uint8], count: int, rng: np.random.Generator, *, is_fast: bool
) -> NDArray[np.uint8]:
    """Return `count` frames, up to four times as fast; a short shot runs to and fro."""
    step = int(rng.choice([2, 3, 4] if is_fast else [1, 1, 1, 1, 2, 3, 4]))
    if len(frames) // step >= MIN_FRAMES:
        frames = frames[::step]
    first = int(rng.integers(max(1, len(frames) - count + 1)))
    frames = frames[first : first + count]
    if rng.random() < 0.2:
        frames = frames[::-1]
    turn = max(1, 2 * len(frames) - 2)
    places = np.arange(count) % turn
    return frames[np.where(places < len(frames), places, turn - places)]


def _reframe(frames: NDArray[np.uint8], rng: np.random.Generator) -> Floats:
    """Return a part of the picture, seen steadily or from a shaking hand."""
    if rng.random() < 0.5:
        return frames.astype(np.float32)
    height = int(rng.integers(14, GRID_HEIGHT))
    width = int(height * GRID_WIDTH / GRID_HEIGHT)
    top = int(rng.integers(GRID_HEIGHT - height + 1))
    left = int(rng.integers(GRID_WIDTH - width + 1))
    if rng.random() < 0.7:
        part = frames[:, :, top : top + height, left : left + width]
        return resized(np.ascontiguousarray(part), GRID_HEIGHT, GRID_WIDTH)
    shake = np.cumsum(rng.normal(0, rng.choice([0.5, 1.5, 4.0]), (len(frames), 2)), 0) / 2
    zoom = GRID_WIDTH / width
    moved = np.empty(frames.shape, np.float32)
    for frame, out, (right, down) in zip(frames, moved, shake, strict=True):
        matrix = np.array([[zoom, 0, -(left + right) * zoom], [0, zoom, -(top + down) * zoom]])
        for plane, target in zip(frame, out, strict=True):
            cv2.warpAffine(
                plane.astype(np.float32), matrix, (GRID_WIDTH, GRID_HEIGHT), dst=target,
                borderMode=cv2.BORDER_REFLECT,
            )  # fmt: skip
    return moved


def _move_over(
    picture: NDArray[np.uint8], count: int, rng: np.random.Generator, *, is_fast: bool
) -> Floats:
    """Return a camera's move over a BGR picture [h, w, 3]."""
    height, width = picture.shape[:2]
    first_zoom = rng.uniform(0.35, 0.95)
    last_zoom = np.clip(first_zoom * rng.uniform(0.7, 1.4), 0.25, 1.0)
    speed = 1.0 if is_fast else rng.choice([0.0, 0.2, 1.0], p=[0.3, 0.4, 0.3])
    (x, y), (dx, dy) = rng.uniform(0, 1, 2), rng.normal(0, speed, 2)
    widest = min(width, height * 16 / 9)
    frames = np.empty((count, 3, GRID_HEIGHT, GRID_WIDTH), np.float32)
    for i, t in enumerate(np.linspace(0, 1, count)):
        w = int(widest * (first_zoom + (last_zoom - first_zoom) * t))
        h = int(w * 9 / 16)
        left = int(np.clip(x + dx * t, 0, 1) * (width - w))
        top = int(np.clip(y + dy * t, 0, 1) * (height - h))
        part = picture[top : top + h, left : left + w]
        small = cv2.resize(part, (GRID_WIDTH, GRID_HEIGHT), interpolation=cv2.INTER_AREA)
        frames[i] = cv2.cvtColor(small, cv2.COLOR_BGR2YUV).transpose(2, 0, 1)
    return frames


def _whip(frames: Floats, rng: np.random.Generator) -> None:
    """Let the camera turn quickly to one side within the shot."""
    length = int(rng.integers(4, min(len(frames), 20) + 1))
    first = int(rng.integers(len(frames) - length + 1))
    turn = rng.choice([-1, 1]) * rng.uniform(0.5, 2.0) * GRID_WIDTH
    places = (1 - np.cos(np.linspace(0, np.pi, length))) / 2 * turn
    for i in range(first, len(frames)):
        at = min(i - first, length - 1)
        around = np.concatenate([frames[i], frames[i][..., ::-1]], axis=2)
        frames[i] = np.roll(around, round(places[at]), axis=2)[..., :GRID_WIDTH]
        if at < length - 1:
            blur = max(1, int(abs(places[at + 1] - places[at])))
            frames[i] = np.stack([cv2.blur(plane, (blur, 1)) for plane in frames[i]])
