"""The temporal cache: this shot's recent latents, compressed more the older they are.

B batch, C channels, F latents of history (oldest first), h x w latent cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import repeat
from torch import Tensor

from fw_model.cache.config import Kernel, TemporalLevel


@dataclass(frozen=True)
class Tier:
    """The latents of one level: [B, C, n * kernel_t, h, w], starting at frame slot `position`."""

    latents: Tensor
    kernel: Kernel
    position: int


def temporal_tiers(levels: Sequence[TemporalLevel], history: Tensor) -> list[Tier]:
    """Split `history` [B, C, F, h, w] into tiers, coarsest (oldest) first.

    Frame slot -1 is the latent just before the target. Levels are filled nearest first; one that
    the history does not reach is left out. A partial group repeats its oldest latent.
    """
    tiers: list[Tier] = []
    end = history.shape[2]
    for level in levels:
        start = max(0, end - level.frames)
        if start == end:
            break
        latents = _fill_group(history[:, :, start:end], level.kernel[0])
        position = end - latents.shape[2] - history.shape[2]
        tiers.append(Tier(latents, level.kernel, position))
        end = start
    return tiers[::-1]


def _fill_group(latents: Tensor, group: int) -> Tensor:
    """Repeat the oldest latent in front until the count divides by `group`."""
    missing = -latents.shape[2] % group
    if missing == 0:
        return latents
    oldest = repeat(latents[:, :, 0], "b c h w -> b c f h w", f=missing)
    return torch.cat([oldest, latents], dim=2)
