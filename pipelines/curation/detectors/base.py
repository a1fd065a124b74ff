"""What a shot detector is: small frames in, transitions out, in one pass and bounded memory.

Frames come a batch at a time: at these sizes a call costs more than what it computes. Knows nothing
about files, decoding or Ray. B frames of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fw_model.errors import ConfigError
from fw_model.registry import resolve

GRID_WIDTH = 64
GRID_HEIGHT = 36

DETECTORS: Mapping[str, str] = {
    "learned": "pipelines.curation.detectors.learned.detector:LearnedDetector",
    "adaptive": "pipelines.curation.detectors.adaptive:AdaptiveDetector",
    "content_histogram": "pipelines.curation.detectors.content_histogram:ContentHistogramDetector",
    "ensemble": "pipelines.curation.detectors.ensemble:EnsembleDetector",
    "onnx": "pipelines.curation.detectors.onnx:OnnxDetector",
    "transnet": "pipelines.curation.detectors.transnet:TransNetDetector",
}


@dataclass(frozen=True)
class SmallFrames:
    """Decoded frames in a row, reduced; `first` is the index of the first.

    `planes` is uint8 [B, 3, GRID_HEIGHT, GRID_WIDTH]: Y, U, V; B is at least 1.
    """

    first: int
    times_s: Sequence[float]
    planes: NDArray[np.uint8]

    @property
    def last(self) -> int:
        """The index of the last frame."""
        return self.first + len(self.planes) - 1

    def singly(self) -> Iterator[SmallFrames]:
        """Yield each frame as a batch of its own."""
        for number in range(len(self.planes)):
            own = slice(number, number + 1)
            yield SmallFrames(self.first + number, self.times_s[own], self.planes[own])

    def in_turn(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Yield the index and the planes [3, GRID_HEIGHT, GRID_WIDTH] of each frame."""
        yield from enumerate(self.planes, self.first)


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
    """Sees every frame once, in order. Transitions come out in order of time, with the batch that
    holds the frame `max_delay` after their end at the latest."""

    max_delay: int

    def update(self, frames: SmallFrames) -> list[Transition]:
        """Take the next frames, however many; return the transitions that are now certain."""
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
        for first, planes in ((0, before), (25, ~before)):
            times_s = [(first + number) / 25.0 for number in range(25)]
            detector.update(SmallFrames(first, times_s, np.stack([planes] * 25)))
        detector.finish()
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise ConfigError(
            f"The shot detector {kind!r} does not work with the options {dict(options)}: {error}; "
            "correct curation.detector."
        ) from error
