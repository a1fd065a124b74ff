"""What a text encoder for the transformer's cross-attention must offer.

N prompts, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class TextEncoder(Protocol):
    """Turns prompts into the token embeddings that a transformer was trained to read."""

    model_id: str
    """Names the weights: embeddings of different ids must not be mixed."""
    width: int
    num_tokens: int

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Return float32 embeddings [N, num_tokens, width] on the CPU.

        Rows after a prompt's last token are zero, as Wan pads them.
        """
        ...
