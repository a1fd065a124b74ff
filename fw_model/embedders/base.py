"""What an embedder of pictures and prompts into one space must offer.

N inputs, E embedding width, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]


class Embedder(Protocol):
    """CLIP, or anything that puts pictures and words into one space."""

    model_id: str
    """Names the weights: embeddings of different ids must not be compared."""
    width: int
    image_size: int

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> Embeddings:
        """Return the unit-length embeddings [N, E] of uint8 RGB images [H, W, 3] of any size."""
        ...

    def embed_text(self, prompts: Sequence[str]) -> Embeddings:
        """Return the unit-length embeddings [N, E] of `prompts`."""
        ...
