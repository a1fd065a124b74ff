"""PySceneDetect's AdaptiveDetector, fed from our own decoding."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector as SceneDetectAdaptive

from pipelines.curation.detectors.base import SmallFrames, Transition


class AdaptiveDetector:
    """Cuts where the change of colour stands out from its neighbourhood.

    The defaults are tuned across corpora on 15 fps footage and up: `min_shot_s` guards against
    doubles at flashes, at the price of very short shots.
    """

    def __init__(
        self,
        *,
        fps: float,
        threshold: float = 3.0,
        window: int = 2,
        min_shot_s: float = 0.17,
        min_content: float = 15.0,
    ) -> None:
        self._rate = Fraction(fps).limit_denominator(100_000)
        self._detector = SceneDetectAdaptive(
            adaptive_threshold=threshold,
            window_width=window,
            min_scene_len=max(1, round(min_shot_s * fps)),
            min_content_val=min_content,
        )
        self.max_delay = window + 1

    def update(self, frames: SmallFrames) -> list[Transition]:
        found: list[int] = []
        for index, planes in frames.in_turn():
            picture = cv2.cvtColor(
                np.ascontiguousarray(planes.transpose(1, 2, 0)), cv2.COLOR_YUV2BGR
            )
            cuts = self._detector.process_frame(FrameTimecode(index, fps=self._rate), picture)
            found += [cut.frame_num for cut in cuts]
        return [Transition("cut", cut, cut, 1.0) for cut in found]

    def finish(self) -> list[Transition]:
        return []
