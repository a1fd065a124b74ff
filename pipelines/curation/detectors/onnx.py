"""A neural detector in ONNX whose weights the user brings, in the shape of TransNetV2.

The network reads windows of `window` frames, uint8 RGB [1, window, height, width, 3] or float, and
gives a probability for each frame that a transition ends after it; the middle half of each window
counts. Needs the package onnxruntime (`pip install 'filmweaver[onnx]'`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fw_model.errors import ConfigError
from pipelines.curation.detectors.base import SmallFrames, Transition


class OnnxDetector:
    """Runs of frames above `threshold`: one frame is a cut, more are a gradual transition."""

    def __init__(
        self,
        *,
        fps: float,
        path: str = "",
        threshold: float = 0.5,
        window: int = 100,
        width: int = 48,
        height: int = 27,
        max_cut_frames: int = 2,
    ) -> None:
        self._session = _open_session(path)
        entry = self._session.get_inputs()[0]
        self._input, self._is_float = entry.name, "float" in entry.type
        self._threshold, self._window = threshold, window
        self._size, self._max_cut_frames = (width, height), max_cut_frames
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
        batch = np.stack(self._frames)[None]
        batch = batch.astype(np.float32) if self._is_float else batch
        output = self._run_network(batch)
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

    def _run_network(self, batch: NDArray[Any]) -> NDArray[Any]:
        """Return the first output, a number for each frame; ConfigError for any other network."""
        try:
            output = np.asarray(self._session.run(None, {self._input: batch})[0]).reshape(-1)
        except Exception as error:  # onnxruntime's errors have no other parent
            raise ConfigError(
                f"The detector's network does not take frames {batch.dtype} {batch.shape}: "
                f"{error}; set window, width and height in detector.options as it was made."
            ) from error
        if len(output) != self._window:
            raise ConfigError(
                f"The detector's network gives {len(output)} numbers for {self._window} frames; it "
                "must give one for each."
            )
        return output

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


def _open_session(path: str) -> Any:
    if not path or not Path(path).is_file():
        raise ConfigError(
            f"The onnx detector has no model at {path!r}; set detector.options.path to a file."
        )
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            "The onnx detector needs the package onnxruntime: pip install 'filmweaver[onnx]'."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # videos are side by side
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no other parent
        raise ConfigError(f"The onnx detector cannot load {path}: {error}.") from error
