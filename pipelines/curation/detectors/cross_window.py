"""The default detector: are the frames just before unlike the frames just after?

A hard cut is where *every* frame of a short window before differs from *every* frame of a short
window after, while the frames inside each window agree. That one comparison leaves out what fools
a plain frame difference: a flash or strobe (some frame after is like some frame before), a pan or
a passing object (frames inside a window differ as well) and a change of light (structure is
compared after removing mean and contrast).

S: structural distance, 1 - correlation of blurred luma. H: distance of colour histograms.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.base import GRID_HEIGHT, GRID_WIDTH, SmallFrames, Transition
from pipelines.curation.detectors.gradual import GradualFinder

Floats = NDArray[np.float32]

# Adding this variance to both sides makes two flat frames alike instead of undefined.
VARIANCE_FLOOR = 4.0
LUMA_BINS = 8
CHROMA_BINS = 16
_MOST_AT_ONCE = 128  # frames whose numbers are bytes


@dataclass(frozen=True, slots=True)
class FrameSignature:
    """What is remembered of a frame. `structure` has unit length, so a dot product correlates."""

    index: int
    structure: Floats
    histogram: Floats
    planes: NDArray[np.uint8]
    step: float
    """S from the frame before; 0 for the first."""


def sign(frames: SmallFrames, before: FrameSignature | None) -> list[FrameSignature]:
    """Reduce frames to what they are compared by; `before` is the frame before the first."""
    structures = _structures(frames.planes[:, 0])
    histograms = _histograms(frames.planes)
    previous = np.roll(structures, 1, axis=0)
    previous[0] = structures[0] if before is None else before.structure
    steps = 1.0 - np.einsum("bn,bn->b", structures, previous)
    return [
        FrameSignature(frames.first + i, structures[i], histograms[i], planes, float(steps[i]))
        for i, planes in enumerate(frames.planes)
    ]


def _structures(luma: NDArray[np.uint8]) -> Floats:
    """Return blurred luma [B, H, W] without mean and contrast: unit rows [B, H * W + 1]."""
    lines = luma.astype(np.float32).reshape(-1, GRID_WIDTH)
    across = (lines @ _BLUR_COLUMNS).reshape(luma.shape)  # one product for all frames
    blurred = (_BLUR_ROWS @ across).reshape(len(luma), -1)
    size = blurred.shape[1]
    rows = np.empty((len(luma), size + 1), np.float32)
    np.subtract(blurred, blurred.mean(1, keepdims=True), out=rows[:, :-1])
    variance = np.einsum("bn,bn->b", rows[:, :-1], rows[:, :-1]) / size + VARIANCE_FLOOR  # [B]
    rows[:, :-1] /= np.sqrt(variance * size)[:, None]
    rows[:, -1] = np.sqrt(VARIANCE_FLOOR / variance)
    return rows


def _blur(size: int) -> Floats:
    """Return the Gaussian blur of a line of `size` as a matrix, the line mirrored at its ends."""
    identity = np.eye(size, dtype=np.float32)
    return cv2.GaussianBlur(identity, (1, 0), sigmaX=1e-6, sigmaY=1.0)


_BLUR_ROWS, _BLUR_COLUMNS = _blur(GRID_HEIGHT), _blur(GRID_WIDTH).T


def _histograms(planes: NDArray[np.uint8]) -> Floats:
    """Return the three planes' shares of levels, together one sixth of what all hold: [B, bins]."""
    parts = [planes[i : i + _MOST_AT_ONCE] for i in range(0, len(planes), _MOST_AT_ONCE)]
    return np.concatenate([_counts(part) for part in parts]) / np.float32(6.0 * planes[0, 0].size)


def _counts(planes: NDArray[np.uint8]) -> Floats:
    """Count levels of all frames in one call a plane: the frame's number is a second channel."""
    count, _, height, width = planes.shape
    numbers = np.repeat(np.arange(count, dtype=np.uint8), height)[:, None].repeat(width, 1)
    found = [
        cv2.calcHist(
            [numbers, np.ascontiguousarray(planes[:, plane]).reshape(-1, width)],
            [0, 1], None, [count, bins], [0, count, 0, 256],
        )
        for plane, bins in enumerate((LUMA_BINS, CHROMA_BINS, CHROMA_BINS))
    ]  # fmt: skip
    return np.concatenate(found, axis=1)


def structural_distances(left: list[FrameSignature], right: list[FrameSignature]) -> Floats:
    """S between every frame of `left` and every frame of `right`: [len(left), len(right)]."""
    product = np.stack([s.structure for s in left]) @ np.stack([s.structure for s in right]).T
    return np.asarray(1.0 - product, dtype=np.float32)


def histogram_distances(left: list[FrameSignature], right: list[FrameSignature]) -> Floats:
    """H between every frame of `left` and every frame of `right`: [len(left), len(right)]."""
    rows = np.stack([s.histogram for s in left])[:, None]
    columns = np.stack([s.histogram for s in right])[None]
    return np.asarray(np.abs(rows - columns).sum(-1), dtype=np.float32)


class CrossWindowDetector:
    """Cuts by comparing windows; gradual transitions by fitting blends (see gradual.py)."""

    def __init__(
        self,
        *,
        fps: float,
        window: int = 3,
        return_window: int = 6,
        min_structure: float = 0.3,
        min_histogram: float = 0.04,
        threshold: float = 0.75,
        gradual: bool = True,
    ) -> None:
        self._window = window
        self._reach = max(window, return_window)
        self._min_structure = min_structure
        self._min_histogram = min_histogram
        self._threshold = threshold
        self._recent: deque[FrameSignature] = deque(maxlen=2 * self._reach)
        self._held: Transition | None = None
        self._gradual = GradualFinder(fps=fps) if gradual else None
        self.max_delay = 2 * self._reach + (self._gradual.max_delay if self._gradual else 0)

    def update(self, frames: SmallFrames) -> list[Transition]:
        cuts = []
        for signature in sign(frames, self._recent[-1] if self._recent else None):
            self._recent.append(signature)
            middle = len(self._recent) - self._reach
            cuts.append(self._judge(middle) if middle > 0 else [])
        if self._gradual:
            return self._gradual.update(frames, cuts)
        return [cut for found in cuts for cut in found]

    def finish(self) -> list[Transition]:
        cuts = []
        for middle in range(max(1, len(self._recent) - self._reach + 1), len(self._recent)):
            cuts += self._judge(middle)
        if self._held:
            cuts.append(self._held)
        return self._gradual.finish(cuts) if self._gradual else cuts

    def _judge(self, middle: int) -> list[Transition]:
        """Ask whether a shot begins at position `middle` of the recent frames."""
        if self._held is None and self._recent[middle].step < self._min_structure:
            return []  # nearly every frame is like the one before
        frames = list(self._recent)
        score = self._score(frames[:middle], frames[middle:])
        index = frames[middle].index
        released = []
        if self._held and index - self._held.start_frame > self._window:
            released.append(self._held)
            self._held = None
        if score is not None and (self._held is None or score > self._held.score):
            self._held = Transition("cut", index, index, score)
        return released

    def _score(self, before: list[FrameSignature], after: list[FrameSignature]) -> float | None:
        """Return how much of a cut lies between the two runs of frames, None for no cut."""
        if after[0].step < self._min_structure:
            return None
        near_before, near_after = before[-self._window :], after[: self._window]
        structure = float(structural_distances(near_before, near_after).min())
        histogram = float(histogram_distances(near_before, near_after).min())
        within_structure, within_histogram = _within(near_before, near_after)
        structure -= 0.5 * within_structure
        histogram -= 0.5 * within_histogram
        if structure < self._min_structure or histogram < self._min_histogram:
            return None
        if self._returns(before, after):
            return None
        step = np.abs(after[0].planes.astype(np.int16) - before[-1].planes).mean((1, 2)).sum()
        score = structure + histogram + float(step) / 100.0
        return score if score >= self._threshold else None

    def _returns(self, before: list[FrameSignature], after: list[FrameSignature]) -> bool:
        """Tell whether the picture soon comes back to what it was: a flash, not a cut."""
        like = (structural_distances(before, after) < 0.15) & (
            histogram_distances(before, after) < 0.1
        )
        return bool(like.any())


def _within(before: list[FrameSignature], after: list[FrameSignature]) -> tuple[float, float]:
    """Return the median S and H of neighbouring frames inside the two windows."""
    pairs = [*zip(before, before[1:], strict=False), *zip(after, after[1:], strict=False)]
    if not pairs:
        return 0.0, 0.0
    structure = [1.0 - float(a.structure @ b.structure) for a, b in pairs]
    histogram = [float(np.abs(a.histogram - b.histogram).sum()) for a, b in pairs]
    return median(structure), median(histogram)  # NumPy's takes long over so few
