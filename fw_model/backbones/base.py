"""The interface of a backbone, and the keys and values it computes from context.

B batch, L context tokens, H heads, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from fw_model.cache.context import TokenSegment

KeyValue = tuple[Tensor, Tensor]
TextKV = dict[int, dict[int, KeyValue]]
"""Keys and values of text, by layer and run of tokens."""


@dataclass(frozen=True)
class ContextKV:
    """Rotated keys and values of context tokens, one pair [B, L, H, D] per transformer layer."""

    layers: tuple[KeyValue, ...]

    @property
    def num_tokens(self) -> int:
        return self.layers[0][0].shape[1]

    def repeat(self, count: int) -> ContextKV:
        """Return a copy whose batch holds each sample `count` times in a row: [B * count, ...]."""
        return self._each(lambda states: states.repeat_interleave(count, dim=0))

    def expand(self, batch: int) -> ContextKV:
        """Return a view whose batch of one serves `batch` samples (no copy)."""
        return self._each(lambda states: states.expand(batch, -1, -1, -1))

    def _each(self, change: Callable[[Tensor], Tensor]) -> ContextKV:
        return ContextKV(tuple((change(key), change(value)) for key, value in self.layers))

    def followed_by(self, newer: ContextKV) -> ContextKV:
        """Return this context with `newer` tokens after it."""
        return ContextKV(
            tuple(
                (torch.cat([k, nk], dim=1), torch.cat([v, nv], dim=1))
                for (k, v), (nk, nv) in zip(self.layers, newer.layers, strict=True)
            )
        )


class Backbone(Protocol):
    """A video diffusion transformer that predicts velocity and reads context segments.

    Keyframes see keyframes; history sees keyframes and history; the target sees all. Context never
    sees noise, so its keys and values stay valid for every denoising step (prefix visibility).
    """

    latent_channels: int
    text_width: int
    spatial_multiple: int
    num_layers: int

    def forward(
        self, segments: Sequence[TokenSegment], *, skip_layers: tuple[int, ...] = ()
    ) -> Tensor:
        """Return the target's velocity [B, C, F, h, w], context and target in one pass.

        The target's tokens bypass `skip_layers`; context never does.
        """

    def encode_context(
        self, segments: Sequence[TokenSegment], past: ContextKV | None = None
    ) -> ContextKV:
        """Return `past` followed by the keys and values of context `segments`.

        Exact only under prefix visibility: with `full`, context sees noise and must be computed
        again at each step (`forward`).
        """

    def predict(
        self,
        target: TokenSegment,
        context: ContextKV | None,
        text_kv: TextKV | None = None,
        *,
        skip_layers: tuple[int, ...] = (),
    ) -> Tensor:
        """Return the target's velocity [B, C, F, h, w] with context already encoded.

        `text_kv`, empty at first, keeps the text's keys and values from step to step. The target's
        tokens bypass `skip_layers`.
        """

    def save(self, folder: Path, *, dtype: torch.dtype | None = None) -> None:
        """Write the transformer in diffusers' layout, and the new parameters next to it."""
