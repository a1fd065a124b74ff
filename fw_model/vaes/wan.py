"""Wan's causal video VAE (diffusers `AutoencoderKLWan`, 2.1 and 2.2 layouts).

Decoding is streamed and exact: the features that the causal convolutions carry from latent to
latent are kept in the stream, not in the VAE, so the decoding of several shots can alternate.

B samples, F frames, f latent frames, C latent channels, H x W pixels, h x w latent cells.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanCausalConv3d,
    WanResample,
    unpatchify,
)
from safetensors import SafetensorError

from fw_model.errors import CheckpointError, InputError
from fw_model.files.weights import check_complete

logger = logging.getLogger(__name__)

_ENCODER_TIME_STRIDE: Final = 4  # fixed in the stock encode loop


class WanVae:
    """A Wan VAE with its own normalisation; see `Vae` for what the methods promise."""

    def __init__(self, vae: AutoencoderKLWan) -> None:
        self.vae = vae.eval().requires_grad_(False)
        config = vae.config
        self.latent_channels = int(config.z_dim)
        self.spatial_factor = int(config.scale_factor_spatial)
        self.temporal_factor = 2 ** sum(config.temperal_downsample)
        if self.temporal_factor != _ENCODER_TIME_STRIDE:
            raise CheckpointError(
                f"This VAE compresses time {self.temporal_factor} times; Wan VAEs compress it "
                f"{_ENCODER_TIME_STRIDE} times, so its config must be wrong."
            )
        if not len(config.latents_mean) == len(config.latents_std) == self.latent_channels:
            raise CheckpointError(
                f"The VAE has {self.latent_channels} latent channels, but its config lists "
                f"{len(config.latents_mean)} means and {len(config.latents_std)} deviations."
            )
        self.receptive_latents = decoder_reach(vae)
        shape = (1, self.latent_channels, 1, 1, 1)
        self._mean = torch.tensor(config.latents_mean, dtype=torch.float32).view(shape)
        self._std = torch.tensor(config.latents_std, dtype=torch.float32).view(shape)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> WanVae:
        """Load a VAE folder in diffusers layout; CheckpointError for any other folder."""
        try:
            vae, loaded = AutoencoderKLWan.from_pretrained(
                str(folder), torch_dtype=dtype, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise CheckpointError(
                f"{folder} is not a Wan VAE in diffusers layout: {_first_line(error)}"
            ) from error
        check_complete(Path(folder), loaded["missing_keys"])
        return cls(vae.to(device))

    @property
    def device(self) -> torch.device:
        """The device of the VAE and its outputs; inputs may be elsewhere."""
        device: torch.device = next(self.vae.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights; frames and latents go in and out as float32."""
        dtype: torch.dtype = next(self.vae.parameters()).dtype
        return dtype

    @torch.no_grad()
    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Encode frames [B, 3, F, H, W] as the mode of their normalised latents [B, C, f, h, w]."""
        self._check_frames(frames)
        posterior = self.vae.encode(frames.to(self.device, self.dtype)).latent_dist
        mode: torch.Tensor = posterior.mode().float()  # [B, C, f, h, w]
        return (mode - self._mean.to(self.device)) / self._std.to(self.device)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.stream().decode(latents)

    def stream(self, history: torch.Tensor | None = None) -> WanDecodeStream:
        """See `Vae`. Only the last `receptive_latents` of `history` are decoded."""
        stream = WanDecodeStream(self)
        if history is not None and history.shape[2] > 0:
            # One more, because a stream decodes its first latent as if a shot began there.
            stream.decode(history[:, :, -(self.receptive_latents + 1) :])
        return stream

    def denormalise(self, latents: torch.Tensor) -> torch.Tensor:
        """Return latents [B, C, f, h, w] in the VAE's own units, on its device."""
        if latents.ndim != 5 or latents.shape[1] != self.latent_channels:
            raise InputError(
                f"Latents must be [B, {self.latent_channels}, f, h, w], got {list(latents.shape)}."
            )
        own = latents.to(self.device, torch.float32)
        own = own * self._std.to(self.device) + self._mean.to(self.device)
        return own.to(self.dtype)

    def _check_frames(self, frames: torch.Tensor) -> None:
        if frames.ndim != 5 or frames.shape[1] != 3:
            raise InputError(f"Frames must be [B, 3, F, H, W], got {list(frames.shape)}.")
        num_frames, height, width = frames.shape[2:]
        if num_frames % self.temporal_factor != 1:
            raise InputError(
                f"{num_frames} frames cannot be encoded; give {self.temporal_factor} n + 1 frames."
            )
        if height % self.spatial_factor or width % self.spatial_factor:
            raise InputError(
                f"Frames of {width}x{height} cannot be encoded; both sides must be multiples of "
                f"{self.spatial_factor}."
            )


class WanDecodeStream:
    """One shot being decoded: the feature cache of the decoder's causal convolutions."""

    def __init__(self, vae: WanVae) -> None:
        self._owner = vae
        num_convolutions = sum(isinstance(m, WanCausalConv3d) for m in vae.vae.decoder.modules())
        self._features: list[torch.Tensor | None] = [None] * num_convolutions
        self._num_decoded = 0

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode the next latents [B, C, f, h, w] into frames [B, 3, F, H, W] in [-1, 1]."""
        vae = self._owner.vae
        parts = []
        # Always one latent at a time, so that the split into chunks does not change a single bit.
        for latent in self._owner.denormalise(latents).split(1, dim=2):
            features = vae.decoder(
                vae.post_quant_conv(latent.contiguous()),
                feat_cache=self._features,
                feat_idx=[0],
                first_chunk=self._num_decoded == 0,
            )
            self._num_decoded += 1
            parts.append(features)
        frames = torch.cat(parts, dim=2)
        if vae.config.patch_size is not None:
            frames = unpatchify(frames, patch_size=vae.config.patch_size)
        return frames.float().clamp(-1.0, 1.0)


def decoder_reach(vae: AutoencoderKLWan) -> int:
    """Return how many earlier latents a frame can depend on, from the decoder's structure.

    A causal convolution with kernel k reaches k - 1 features back, at the frame rate of its level;
    each doubling of time doubles that rate.
    """
    modules = list(vae.decoder.modules())  # in order of execution
    resamplers = [module for module in modules if isinstance(module, WanResample)]
    over_time = {id(getattr(module, "time_conv", None)) for module in resamplers}
    reach, rate = 0.0, 1
    for module in modules:
        if isinstance(module, WanResample) and module.mode == "upsample3d":
            reach += 2 / rate
            rate *= 2
        elif isinstance(module, WanCausalConv3d) and id(module) not in over_time:
            reach += (module.kernel_size[0] - 1) / rate
    return int(-(-reach // 1)) + 1


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
