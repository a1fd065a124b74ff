"""A neural detector in ONNX whose weights the user brings, in the shape of TransNetV2.

The network reads windows of `window` frames, uint8 RGB [1, window, height, width, 3] or float, and
gives a probability for each frame (see frame_windows.py). Needs the package onnxruntime
(`pip install 'filmweaver[onnx]'`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fw_model.errors import ConfigError
from pipelines.curation.detectors.frame_windows import WindowDetector


class OnnxDetector(WindowDetector):
    """Transitions by a network in ONNX."""

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
        super().__init__(
            self._probabilities,
            window=window,
            size=(width, height),
            threshold=threshold,
            max_cut_frames=max_cut_frames,
        )

    def _probabilities(self, frames: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the first output, a number for each frame; ConfigError for any other network."""
        batch: NDArray[Any] = frames[None].astype(np.float32) if self._is_float else frames[None]
        try:
            output = np.asarray(self._session.run(None, {self._input: batch})[0]).reshape(-1)
        except Exception as error:  # onnxruntime's errors have no other parent
            raise ConfigError(
                f"The detector's network does not take frames {batch.dtype} {batch.shape}: "
                f"{error}; set window, width and height in detector.options as it was made."
            ) from error
        if len(output) != len(frames):
            raise ConfigError(
                f"The detector's network gives {len(output)} numbers for {len(frames)} frames; it "
                "must give one for each."
            )
        return output


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
