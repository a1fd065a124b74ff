"""Rotary embeddings at real-valued positions (Su et al. 2021; FilmWeaver, tiers).

A coarse token sits at the centre of the latent cells it covers, in units of the backbone's own
patch grid; at integer positions the angles equal diffusers' Wan table exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fw_model.cache.config import Kernel


def cell_centres(num: int, kernel: int, patch: int, start: float = 0.0) -> Tensor:
    """Return the positions of `num` tokens of `kernel` cells on a grid of `patch` cells: [num]."""
    first = torch.arange(num, dtype=torch.float64) * kernel + start * patch
    return (first + (kernel - patch) / 2) / patch


def token_positions(
    grid: tuple[int, int, int], kernel: Kernel, patch: Kernel, frame: int
) -> Tensor:
    """Return the (time, row, column) position of each token of a [f, h, w] grid: [f * h * w, 3]."""
    time = cell_centres(grid[0], kernel[0], patch[0], frame / patch[0])
    rows = cell_centres(grid[1], kernel[1], patch[1])
    columns = cell_centres(grid[2], kernel[2], patch[2])
    return torch.cartesian_prod(time, rows, columns).reshape(-1, 3)


def rotary_table(
    positions: Tensor, head_width: int, theta: float = 10000.0
) -> tuple[Tensor, Tensor]:
    """Return cosine and sine for `positions` [L, 3], each [1, L, 1, head_width] float32.

    Width is split over (time, row, column) as Wan splits it; computed in float64.
    """
    spatial = 2 * (head_width // 6)
    widths = (head_width - 2 * spatial, spatial, spatial)
    angles = []
    for axis, width in enumerate(widths):
        exponent = torch.arange(0, width, 2, dtype=torch.float64) / width
        angles.append(torch.outer(positions[:, axis], 1.0 / theta**exponent))  # [L, width / 2]
    angle = torch.cat([a.repeat_interleave(2, dim=1) for a in angles], dim=1)  # [L, head_width]
    cos, sin = angle.cos().float(), angle.sin().float()
    return cos[None, :, None, :], sin[None, :, None, :]


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate `states` [B, L, H, D] pairwise by the angles of [1, L, 1, D] tables."""
    even, odd = states.unflatten(-1, (-1, 2)).unbind(-1)
    half_cos, half_sin = cos[..., 0::2], sin[..., 1::2]
    turned = torch.stack([even * half_cos - odd * half_sin, even * half_sin + odd * half_cos], -1)
    return turned.flatten(-2).type_as(states)
