"""The interface of an embedder of pictures and prompts.

N inputs, E embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray


class Embedder(Protocol):
    """Maps pictures and prompts to one space, where similar ones have a high cosine."""

    model_id: str
    """Names the weights: embeddings of different ids must not be compared."""
    width: int
    image_size: int
    """Side in pixels that pictures are scaled to."""

    def embed_images(self, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Return unit rows [N, E], float32 on the CPU, of pictures [H, W, 3] of any size."""

    def embed_text(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return unit rows [N, E], float32 on the CPU."""
