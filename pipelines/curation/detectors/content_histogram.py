"""PySceneDetect's content and histogram detectors together, and gradual transitions beside them.

A cut that either finds is a cut; two within a few frames are one.
"""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect import FrameTimecode
from scenedetect.detectors import ContentDetector, HistogramDetector

from pipelines.curation.detectors.base import SmallFrames, Transition
from pipelines.curation.detectors.learned.gradual import GradualFinder
from pipelines.curation.detectors.learned.views import view_of


class ContentHistogramDetector:
    """Cuts by change of colour or of histogram; fades, dissolves and wipes by gradual.py."""

    def __init__(
        self,
        *,
        fps: float,
        content_threshold: float = 27.0,
        histogram_threshold: float = 0.2,
        min_shot_s: float = 0.25,
    ) -> None:
        self._rate = Fraction(fps).limit_denominator(100_000)
        self._min_frames = max(1, round(min_shot_s * fps))
        self._detectors = [
            ContentDetector(threshold=content_threshold, min_scene_len=self._min_frames),
            HistogramDetector(threshold=histogram_threshold, min_scene_len=self._min_frames),
        ]
        self._last = FrameTimecode(0, fps=self._rate)
        self._waiting: list[int] = []
        self._last_cut = 0
        self._gradual = GradualFinder(fps=fps)
        # The content detector may hold a cut back for the shortest length of a shot.
        self._patience = 2 * self._min_frames
        self.max_delay = self._patience + self._gradual.max_delay

    def update(self, frames: SmallFrames) -> list[Transition]:
        cuts = [self._cuts(index, planes) for index, planes in frames.in_turn()]
        return self._gradual.update(frames.first, view_of(frames.planes), cuts)

    def _cuts(self, index: int, planes: NDArray[np.uint8]) -> list[Transition]:
        picture = cv2.cvtColor(np.ascontiguousarray(planes.transpose(1, 2, 0)), cv2.COLOR_YUV2BGR)
        self._last = FrameTimecode(index, fps=self._rate)
        for detector in self._detectors:
            self._waiting += [c.frame_num for c in detector.process_frame(self._last, picture)]
        return self._release(index - self._patience)

    def finish(self) -> list[Transition]:
        for detector in self._detectors:
            self._waiting += [cut.frame_num for cut in detector.post_process(self._last)]
        return self._gradual.finish(self._release(self._last.frame_num + 1))

    def _release(self, before: int) -> list[Transition]:
        ready = sorted(cut for cut in self._waiting if cut < before)
        self._waiting = [cut for cut in self._waiting if cut >= before]
        released = []
        for cut in ready:
            if cut - self._last_cut >= self._min_frames:
                released.append(Transition("cut", cut, cut, 1.0))
                self._last_cut = cut
        return released
