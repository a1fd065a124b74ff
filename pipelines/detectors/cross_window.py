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

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.detectors.base import SmallFrame, Transition
from pipelines.detectors.gradual import GradualFinder

Floats = NDArray[np.float32]

# Adding this variance to both sides makes two flat frames alike instead of undefined.
VARIANCE_FLOOR = 4.0
LUMA_BINS = 8
CHROMA_BINS = 16


@dataclass(frozen=True)
class FrameSignature:
    """What is remembered of a frame. `structure` has unit length, so a dot product correlates."""

    index: int
    structure: Floats
    histogram: Floats
    planes: NDArray[np.uint8]


def sign(frame: SmallFrame) -> FrameSignature:
    """Reduce a frame to what frames are compared by."""
    luma = cv2.GaussianBlur(frame.planes[0], (0, 0), 1.0)
    mean, deviation = cv2.meanStdDev(luma)
    centred = luma.ravel() - np.float32(mean[0, 0])
    variance = float(deviation[0, 0]) ** 2
    structure = np.empty(centred.size + 1, np.float32)
    structure[:-1] = centred / np.sqrt((variance + VARIANCE_FLOOR) * centred.size)
    structure[-1] = np.sqrt(VARIANCE_FLOOR / (variance + VARIANCE_FLOOR))
    return FrameSignature(frame.index, structure, _histogram(frame.planes), frame.planes)


def _histogram(planes: NDArray[np.uint8]) -> Floats:
    bins = (LUMA_BINS, CHROMA_BINS, CHROMA_BINS)
    counts = [
        cv2.calcHist([plane], [0], None, [count], [0, 256])
        for plane, count in zip(planes, bins, strict=True)
    ]
    return np.concatenate(counts).ravel() / np.float32(6.0 * planes[0].size)


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

    def update(self, frame: SmallFrame) -> list[Transition]:
        self._recent.append(sign(frame))
        cuts = []
        if len(self._recent) > self._reach:
            cuts = self._judge(len(self._recent) - self._reach)
        return self._gradual.update(frame, cuts) if self._gradual else cuts

    def finish(self) -> list[Transition]:
        cuts = []
        for middle in range(max(1, len(self._recent) - self._reach + 1), len(self._recent)):
            cuts += self._judge(middle)
        if self._held:
            cuts.append(self._held)
        return self._gradual.finish(cuts) if self._gradual else cuts

    def _judge(self, middle: int) -> list[Transition]:
        """Ask whether a shot begins at position `middle` of the recent frames."""
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
        if 1.0 - float(before[-1].structure @ after[0].structure) < self._min_structure:
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
    return float(np.median(structure)), float(np.median(histogram))
