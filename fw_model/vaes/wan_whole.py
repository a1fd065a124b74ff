"""Wan's video autoencoder over all frames at once: the same values as the stock loop.

Stock `AutoencoderKLWan` processes a video latent by latent with a cache of features. That bounds
memory, but a training step then consists of many small convolutions. Here every causal convolution
sees the whole sequence, which is several times faster for short crops.
Knows nothing about normalisation or streaming.

B samples, F = 4(f - 1) + 1 frames, f latent frames, C latent channels.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import patchify, unpatchify
from einops import rearrange


def encode_moments(vae: AutoencoderKLWan, frames: torch.Tensor) -> torch.Tensor:
    """Return mean and log-variance [B, 2C, f, h, w] of frames [B, 3, F, H, W] in [-1, 1]."""
    encoder = vae.encoder
    features = patchify(frames, vae.config.patch_size) if vae.config.patch_size else frames
    features = encoder.conv_in(features)
    for block in encoder.down_blocks:
        features = _down(block, features)
    features = encoder.mid_block(features)
    features = encoder.conv_out(encoder.nonlinearity(encoder.norm_out(features)))
    moments: torch.Tensor = vae.quant_conv(features)
    return moments


def decode_frames(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """Return frames [B, 3, F, H, W] of latents [B, C, f, h, w] in the VAE's units; unclamped."""
    decoder = vae.decoder
    features = decoder.mid_block(decoder.conv_in(vae.post_quant_conv(latents)))
    for block in decoder.up_blocks:
        features = _up(block, features)
    features = decoder.conv_out(decoder.nonlinearity(decoder.norm_out(features)))
    frames: torch.Tensor = features
    return unpatchify(frames, vae.config.patch_size) if vae.config.patch_size else frames


def _down(block: Any, features: torch.Tensor) -> torch.Tensor:
    if hasattr(block, "avg_shortcut"):  # Wan 2.2
        shortcut = block.avg_shortcut(features)
        for resnet in block.resnets:
            features = resnet(features)
        if block.downsampler is not None:
            features = _resample(block.downsampler, features)
        total: torch.Tensor = features + shortcut
        return total
    if hasattr(block, "mode"):
        return _resample(block, features)
    result: torch.Tensor = block(features)
    return result


def _up(block: Any, features: torch.Tensor) -> torch.Tensor:
    before = features
    for resnet in block.resnets:
        features = resnet(features)
    if hasattr(block, "avg_shortcut"):  # Wan 2.2
        if block.upsampler is not None:
            features = _resample(block.upsampler, features)
        if block.avg_shortcut is not None:
            features = features + block.avg_shortcut(before, first_chunk=True)
    elif block.upsamplers is not None:
        features = _resample(block.upsamplers[0], features)
    return features


def _resample(block: Any, features: torch.Tensor) -> torch.Tensor:
    # The first frame of a video is resampled only in space. When upsampling, the time convolution
    # of the other frames does not see it, because the stock cache begins without it.
    if block.mode == "upsample3d" and features.shape[2] > 1:
        doubled = block.time_conv(features[:, :, 1:])
        doubled = rearrange(doubled, "b (two c) f h w -> b c (f two) h w", two=2)
        features = torch.cat([features[:, :, :1], doubled], dim=2)
    num_frames = features.shape[2]
    flat = block.resample(rearrange(features, "b c f h w -> (b f) c h w"))
    features = rearrange(flat, "(b f) c h w -> b c f h w", f=num_frames)
    if block.mode == "downsample3d" and num_frames > 1:
        features = torch.cat([features[:, :, :1], block.time_conv(features)], dim=2)
    return features
