"""The interface of an encoder of prompts for a backbone.

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
        """Return [N, T, D], float32; zero after the end of a prompt, as in Wan's training."""

    def lengths(self, prompts: Sequence[str]) -> list[int]:
        """Return how many tokens of each prompt are not padding; only those are stored."""
