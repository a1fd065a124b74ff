"""The interface of a video VAE.

B samples, F frames, f latent frames, C latent channels, H x W pixels, h x w latent cells.
A VAE is causal: latent k of a shot depends on frames up to `temporal_factor * k` only, and
the first latent represents a single frame, so a picture is a shot of one latent.
"""

from __future__ import annotations

from typing import Protocol

import torch


class DecodeStream(Protocol):
    """The decoding of one shot, chunk by chunk, with the state that the next chunk needs."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode the next latents [B, C, f, h, w] of the shot into frames [B, 3, F, H, W].

        F is `temporal_factor * (f - 1) + 1` at the start of a shot, `temporal_factor * f` later.
        The frames equal those of the whole shot decoded at once.
        """


class Vae(Protocol):
    """Turns frames in [-1, 1] into normalised latents (mean 0, std 1 per channel) and back."""

    latent_channels: int
    spatial_factor: int
    temporal_factor: int
    receptive_latents: int
    """How many latents of history a new stream needs to continue a shot exactly."""

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Encode frames [B, 3, F, H, W] as latents [B, C, f, h, w], without sampling.

        F must be `temporal_factor * n + 1`, H and W multiples of `spatial_factor`.
        """

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode a whole shot [B, C, f, h, w] into frames [B, 3, factor * (f - 1) + 1, H, W]."""

    def stream(self, history: torch.Tensor | None = None) -> DecodeStream:
        """Start to decode a shot, or continue one after its latents `history` [B, C, n, h, w]."""
