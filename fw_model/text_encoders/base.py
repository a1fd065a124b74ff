"""What an encoder of prompts must offer to a backbone.

N prompts, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch


class TextEncoder(Protocol):
    """Turns a prompt into a sequence of tokens for cross-attention."""

    model_id: str
    width: int
    num_tokens: int

    def encode(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return [N, T, D], float32; zero after a prompt's true length, as Wan was trained."""
        ...

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """Return how many tokens of each prompt are true: what must be kept at rest."""
        ...
