"""Detectors whose network reads windows of many frames, in the shape of TransNetV2.

The network reads `window` pictures at once and gives each the probability that a transition ends
after it. The middle half of a window counts; the next window begins where that half ends. Knows
nothing about what runs the network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.base import SmallFrames, Transition

RunNetwork = Callable[[NDArray[np.uint8]], NDArray[Any]]
"""Takes RGB [window, height, width, 3]; returns probabilities [window]."""


class WindowDetector:
    """Runs of frames at or above `threshold`: up to `max_cut_frames` frames are a cut, more are a
    gradual transition. Pictures are `size` = (width, height) pixels."""

    def __init__(
        self,
        run: RunNetwork,
        *,
        window: int,
        size: tuple[int, int],
        threshold: float,
        max_cut_frames: int,
    ) -> None:
        self._run_network = run
        self._threshold, self._window = threshold, window
        self._size, self._max_cut_frames = size, max_cut_frames
        self._margin = window // 4
        self._frames: list[NDArray[np.uint8]] = []
        self._num_seen = 0
        self._num_judged = 0
        self._run: list[tuple[int, float]] = []
        self.max_delay = 2 * window

    def update(self, frames: SmallFrames) -> list[Transition]:
        return [found for _, planes in frames.in_turn() for found in self._take(planes)]

    def _take(self, planes: NDArray[np.uint8]) -> list[Transition]:
        picture = cv2.cvtColor(np.ascontiguousarray(planes.transpose(1, 2, 0)), cv2.COLOR_YUV2RGB)
        small = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA)
        if not self._frames:
            self._frames = [small] * self._margin  # the first frames have no past
        self._frames.append(small)
        self._num_seen += 1
        return self._judge() if len(self._frames) == self._window else []

    def finish(self) -> list[Transition]:
        found: list[Transition] = []
        while self._frames and self._num_judged < self._num_seen:
            self._frames += [self._frames[-1]] * (self._window - len(self._frames))
            found += self._judge()
        return found + self._end_run()

    def _judge(self) -> list[Transition]:
        """Run the network on a full window and take the probabilities of its middle half."""
        output = self._run_network(np.stack(self._frames))
        step = self._window - 2 * self._margin
        probabilities = output[self._margin : self._margin + step]
        found: list[Transition] = []
        for probability in probabilities[: self._num_seen - self._num_judged]:
            if probability >= self._threshold:
                self._run.append((self._num_judged, float(probability)))
            else:
                found += self._end_run()
            self._num_judged += 1
        self._frames = self._frames[step:]
        return found

    def _end_run(self) -> list[Transition]:
        if not self._run:
            return []
        run, self._run = self._run, []
        score = max(probability for _, probability in run)
        # The network marks the last frames of the old shot; the new one begins after them.
        start, end = run[0][0] + 1, run[-1][0] + 1
        if len(run) <= self._max_cut_frames:
            return [Transition("cut", end, end, score)] if end < self._num_seen else []
        return [Transition("gradual", start, end, score)]
