"""A Wan encoder in closed form: principal components of 8x8 pixels over 4 frames.

A small VAE learns its latents slowly, and models that read them have to wait. A linear encoder
takes seconds, its latents are smooth, and its channels are ordered by how much of the picture
they carry. It is written into the weights of the stock `AutoencoderKLWan`:

- the convolutions that shrink space gather 2x2 cells, those that shrink time gather pairs;
- a pair of frames gives its mean in the channels where a lone first frame gives itself, and the
  main components of its difference in spare channels, so all latents of a still shot are equal;
- a large offset in the channels that carry latents, and one more channel with the negative sum of
  the others, keep the last norm and SiLU in their linear range.

B samples, F frames, C latent channels, D encoder channels.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample, patchify
from einops import rearrange

from fw_model.errors import ConfigError
from fw_model.vaes.wan_whole import encode_moments

_OFFSET = 100.0  # far above any latent, so that a latent hardly changes the norm
_SILU_INPUT = 12.0  # SiLU is linear there to 1e-4
_LOG_VARIANCE = -8.0


@torch.no_grad()
def fit_linear_encoder(
    vae: AutoencoderKLWan, clips: torch.Tensor, *, static_channels: int
) -> float:
    """Write the encoder that fits clips [B, 3, F, H, W] best into `vae`.

    The first `static_channels` of a latent are the mean of its frames, the rest their motion.
    Returns the share of variance that latents after the first keep. Raises ConfigError if the VAE
    does not have exactly two shrinking levels without residual blocks.
    """
    encoder = vae.encoder
    width, channels = int(vae.config.base_dim), int(vae.config.z_dim)
    patch_channels = int(vae.config.in_channels)
    _check_shape(vae, static_channels)
    for module in encoder.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Conv3d)):
            for parameter in module.parameters():
                parameter.zero_()
    first, second = (b for b in encoder.down_blocks if hasattr(b, "time_conv"))
    encoder.conv_in.weight[:patch_channels, :, 2, 1, 1] = torch.eye(patch_channels)

    cells = _fit_first_level(vae, first, clips)  # [B, D, F, h, w]
    features = torch.cat([cells[:, :, :1], first.time_conv(cells)], dim=2)  # [B, D, f, h, w]
    flat = rearrange(features, "b c f (h y) (w x) -> (b f h w) (y x c)", y=2, x=2)  # [samples, 4 D]
    centre = flat.mean(0)
    axes = _axes(flat - centre)[: width - 1]  # [D - 1, 4 D]
    _set_gather(second, axes, width)
    carrying = slice(0, channels)
    second.resample[1].bias[: width - 1] = -axes @ centre
    second.resample[1].bias[carrying] += _OFFSET
    _set_balance(second.resample[1].weight, second.resample[1].bias, channels)

    spots = _resampled(second, features)[:, : width - 1].clone()  # [B, D - 1, f, h, w]
    spots[:, carrying] -= _OFFSET
    mean, half = _pairs(spots)
    left = torch.cat([mean[:, static_channels:], half], dim=1)  # [samples, rest]
    motion = _axes(left)[: channels - static_channels]
    mean_of, difference_of = torch.zeros(width, width), torch.zeros(width, width)
    mean_of[:static_channels, :static_channels] = torch.eye(static_channels)
    rest = width - 1 - static_channels
    mean_of[static_channels:channels, static_channels : width - 1] = motion[:, :rest]
    difference_of[static_channels:channels, : width - 1] = motion[:, rest:]
    _set_pair(second, mean_of, difference_of)
    offsets = torch.zeros(width)
    offsets[carrying] = offsets[width - 1] = _OFFSET
    kernel = second.time_conv.weight  # [D, D, 3, 1, 1]
    wanted = torch.zeros(width)
    wanted[carrying] = _OFFSET
    second.time_conv.bias.copy_(wanted - kernel.sum((2, 3, 4)) @ offsets)
    _set_balance(kernel, second.time_conv.bias, channels)

    _set_readout(vae, width, channels)
    kept = mean[:, :static_channels].var(0).sum() + (left @ motion.T).var(0).sum()
    return float(kept / (mean.var(0).sum() + half.var(0).sum()))


def _fit_first_level(
    vae: AutoencoderKLWan, first: WanResample, clips: torch.Tensor
) -> torch.Tensor:
    """Fit the first level to clips: the mean of two frames, and how they differ.

    Returns the cells before their frames are paired: [B, D, F, h, w].
    """
    width, patch_channels = int(vae.config.base_dim), int(vae.config.in_channels)
    _set_gather(first, torch.eye(4 * patch_channels), patch_channels)
    patches = patchify(clips, vae.config.patch_size)
    cells = _resampled(first, vae.encoder.conv_in(patches))  # [B, D, F, h, w]
    used = 4 * patch_channels
    _, half = _pairs(cells[:, :used])
    motion = _axes(half)[: width - used]  # [D - used, used]
    mean_of = torch.zeros(width, used)
    mean_of[:used] = torch.eye(used)
    difference_of = torch.zeros(width, used)
    difference_of[used:] = motion
    _set_pair(first, mean_of, difference_of)
    return cells


def _check_shape(vae: AutoencoderKLWan, static_channels: int) -> None:
    config = vae.config
    width, used = int(config.base_dim), 4 * int(config.in_channels)
    if config.is_residual or config.num_res_blocks != 0 or list(config.dim_mult) != [1, 1, 1]:
        raise ConfigError(
            "A linear encoder needs dim_mult [1, 1, 1], num_res_blocks 0 and no residual levels."
        )
    if not (config.z_dim < width - 1 and used < width and 0 < static_channels <= config.z_dim):
        raise ConfigError(
            f"A linear encoder of {width} channels cannot hold {config.z_dim} latent channels, "
            f"{static_channels} of them static, over patches of {used} values; widen base_dim."
        )


def _set_gather(block: WanResample, axes: torch.Tensor, in_channels: int) -> None:
    """Make the strided convolution return `axes` @ the 2x2 cell, axes [K, (2 2 in_channels)]."""
    kernel = rearrange(axes, "k (y x c) -> k c y x", y=2, x=2, c=in_channels)
    block.resample[1].weight[: len(axes), :in_channels, :2, :2] = kernel


def _set_pair(block: WanResample, mean_of: torch.Tensor, difference_of: torch.Tensor) -> None:
    """Make the time convolution return mean_of @ (a + b) / 2 + difference_of @ (b - a) / 2."""
    inputs = mean_of.shape[1]
    block.time_conv.weight[:, :inputs, 1, 0, 0] = (mean_of - difference_of) / 2
    block.time_conv.weight[:, :inputs, 2, 0, 0] = (mean_of + difference_of) / 2


def _set_balance(weight: torch.Tensor, bias: torch.Tensor, channels: int) -> None:
    """Make the last channel the offset minus the sum of what the first `channels` carry."""
    weight[-1] = -weight[:channels].sum(0)
    bias[-1] = _OFFSET - (bias[:channels] - _OFFSET).sum()


def _set_readout(vae: AutoencoderKLWan, width: int, channels: int) -> None:
    encoder = vae.encoder
    norm = (channels + 1) ** 0.5 * _OFFSET
    encoder.norm_out.gamma.fill_(_SILU_INPUT / _OFFSET * norm / width**0.5)
    diagonal = torch.eye(channels) * (_OFFSET / _SILU_INPUT)
    encoder.conv_out.weight[:channels, :channels, 2, 1, 1] = diagonal
    encoder.conv_out.bias[:channels] = -_OFFSET
    encoder.conv_out.bias[channels:] = _LOG_VARIANCE
    vae.quant_conv.weight[:, :, 0, 0, 0] = torch.eye(2 * channels)
    vae.quant_conv.bias.zero_()


def _resampled(block: WanResample, features: torch.Tensor) -> torch.Tensor:
    flat: torch.Tensor = block.resample(rearrange(features, "b c f h w -> (b f) c h w"))
    return rearrange(flat, "(b f) c h w -> b c f h w", f=features.shape[2])


def _pairs(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and half difference of the frames after the first, in pairs: [samples, C]."""
    flat = rearrange(features[:, :, 1:], "b c (f two) h w -> two (b f h w) c", two=2)
    return (flat[0] + flat[1]) / 2, (flat[1] - flat[0]) / 2


def _axes(samples: torch.Tensor) -> torch.Tensor:
    """Return the principal axes of samples [N, K] as rows [K, K], strongest first."""
    exact = samples.double()
    _, axes = torch.linalg.eigh(exact.T @ exact / len(exact))
    strongest_first: torch.Tensor = axes.flip(1).T.float()
    return strongest_first


@torch.no_grad()
def latent_mode(vae: AutoencoderKLWan, frames: torch.Tensor) -> torch.Tensor:
    """Return the latents [B, C, f, h, w] of frames [B, 3, F, H, W] in the VAE's own units."""
    return encode_moments(vae, frames).chunk(2, dim=1)[0]
