"""What a shot detector is: small frames in, transitions out, in one pass and bounded memory.

Knows nothing about files, decoding or Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fw_model.errors import ConfigError
from fw_model.registry import resolve

GRID_WIDTH = 64
GRID_HEIGHT = 36

DETECTORS: Mapping[str, str] = {
    "cross_window": "pipelines.detectors.cross_window:CrossWindowDetector",
    "adaptive": "pipelines.detectors.adaptive:AdaptiveDetector",
    "content_histogram": "pipelines.detectors.content_histogram:ContentHistogramDetector",
    "ensemble": "pipelines.detectors.ensemble:EnsembleDetector",
    "onnx": "pipelines.detectors.onnx:OnnxDetector",
}


@dataclass(frozen=True)
class SmallFrame:
    """A decoded frame, reduced. `planes` is uint8 [3, GRID_HEIGHT, GRID_WIDTH]: Y, U, V."""

    index: int
    time_s: float
    planes: NDArray[np.uint8]


@dataclass(frozen=True)
class Transition:
    """Where one shot gives way to the next.

    A cut has `start_frame == end_frame`, the first frame of the new shot. A gradual transition
    spans the frames that belong to neither shot, `[start_frame, end_frame)`.
    """

    kind: Literal["cut", "gradual"]
    start_frame: int
    end_frame: int
    score: float


class ShotDetector(Protocol):
    """Sees every frame once, in order. Transitions come out in order of time, at most
    `max_delay` frames after their end."""

    max_delay: int

    def update(self, frame: SmallFrame) -> list[Transition]:
        """Take the next frame; return the transitions that are now certain."""
        ...

    def finish(self) -> list[Transition]:
        """Return the transitions still open at the end of the video."""
        ...


def make_detector(kind: str, options: Mapping[str, Any], *, fps: float) -> ShotDetector:
    """Build the detector named `kind` for a video of `fps` frames per second."""
    detector: ShotDetector = resolve(kind, DETECTORS, "shot detector")(fps=fps, **options)
    return detector


def check_detector(kind: str, options: Mapping[str, Any]) -> None:
    """Build the detector and show it a cut, before any video is touched; ConfigError if it cannot
    work."""
    values = np.linspace(0, 255, 3 * GRID_HEIGHT * GRID_WIDTH).astype(np.uint8)
    before = values.reshape(3, GRID_HEIGHT, GRID_WIDTH)
    try:
        detector = make_detector(kind, options, fps=25.0)
        for index in range(50):
            detector.update(SmallFrame(index, index / 25.0, before if index < 25 else ~before))
        detector.finish()
    except (TypeError, ValueError, LookupError) as error:
        raise ConfigError(
            f"The shot detector {kind!r} does not work with the options {dict(options)}: {error}; "
            "correct curation.detector."
        ) from error
