"""The flow-matching objective (FilmWeaver, training objective; written there as epsilon loss).

Latents [B, C, F, H, W]; sigma [B].
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Parameterization = Literal["velocity", "epsilon_equiv"]


def per_sample(sigma: Tensor, like: Tensor) -> Tensor:
    """Return `sigma` [B] shaped to broadcast over `like` [B, ...]."""
    return sigma.reshape(-1, *[1] * (like.ndim - 1)).to(like)


def add_noise(latents: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """Return x_sigma = (1 - sigma) latents + sigma noise."""
    level = per_sample(sigma, latents)
    return (1 - level) * latents + level * noise


def velocity_target(latents: Tensor, noise: Tensor) -> Tensor:
    """Return the training target of the velocity: noise - latents."""
    return noise - latents


def predicted_latents(noisy: Tensor, velocity: Tensor, sigma: Tensor) -> Tensor:
    """Return the clean latents that `velocity` implies: x_sigma - sigma * velocity."""
    return noisy - per_sample(sigma, noisy) * velocity


def velocity_loss(
    velocity: Tensor,
    target: Tensor,
    sigma: Tensor,
    parameterization: Parameterization = "velocity",
    channel_weight: Tensor | None = None,
) -> Tensor:
    """Return the loss of each sample [B], averaged over its own latent cells.

    `epsilon_equiv` weights by (1 - sigma)^2, which makes it the paper's epsilon loss:
    epsilon = x_sigma + (1 - sigma) v, so epsilon' - epsilon = (1 - sigma) (v' - v).
    `channel_weight` [C] scales the squared error of each latent channel.
    """
    squared = (velocity.float() - target.float()).square()  # [B, C, F, H, W]
    if channel_weight is not None:
        squared = squared * channel_weight.to(squared).view(1, -1, 1, 1, 1)
    loss = squared.flatten(1).mean(1)  # [B]
    if parameterization == "epsilon_equiv":
        loss = loss * (1 - sigma.to(loss)).square()
    return loss
