"""The Wan vae: shapes, exact streaming, and the whole-sequence form used for training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan

from fw_model.errors import CheckpointError, InputError
from fw_model.vaes.wan import WanVae
from fw_model.vaes.wan_whole import decode_frames, encode_moments

WAN_21 = {"dim_mult": [1, 2, 2, 2], "temperal_downsample": [False, True, True], "num_res_blocks": 1}
WAN_22 = {
    "dim_mult": [1, 2, 2],
    "temperal_downsample": [True, True],
    "num_res_blocks": 1,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
}
LAYOUTS = pytest.mark.parametrize("layout", [WAN_21, WAN_22], ids=["wan 2.1", "wan 2.2"])


def random_vae(layout: dict[str, Any]) -> AutoencoderKLWan:
    torch.manual_seed(0)
    mean, std = [0.1, -0.2, 0.3, 0.0], [1.5, 0.5, 2.0, 1.0]
    return AutoencoderKLWan(
        base_dim=8, z_dim=4, scale_factor_spatial=8, latents_mean=mean, latents_std=std, **layout
    )


def latents_of(num_latents: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 4, num_latents, 2, 3, generator=generator)


@LAYOUTS
def test_latents_are_the_normalised_mode_of_the_stock_encoder(layout: dict[str, Any]) -> None:
    stock = random_vae(layout)
    vae = WanVae(stock)
    frames = torch.rand(2, 3, 9, 16, 24) * 2 - 1
    latents = vae.encode(frames)
    assert latents.shape == (2, 4, 3, 2, 3)
    mode = stock.encode(frames).latent_dist.mode()
    expected = (mode[:, 2] - 0.3) / 2.0
    torch.testing.assert_close(latents[:, 2], expected)


@LAYOUTS
def test_whole_decode_equals_the_stock_decoder(layout: dict[str, Any]) -> None:
    stock = random_vae(layout)
    vae = WanVae(stock)
    frames = vae.decode(latents_of(4))
    assert frames.shape == (1, 3, 13, 16, 24)
    with torch.no_grad():
        expected = stock.decode(vae.denormalise(latents_of(4))).sample
    torch.testing.assert_close(frames, expected, rtol=0, atol=1e-5)


@LAYOUTS
@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_chunks_decode_to_the_frames_of_the_whole(layout: dict[str, Any], chunk: int) -> None:
    vae = WanVae(random_vae(layout))
    latents = latents_of(7)
    stream = vae.stream()
    parts = [stream.decode(part) for part in latents.split(chunk, dim=2)]
    assert parts[0].shape[2] == 4 * (chunk - 1) + 1
    assert parts[1].shape[2] == 4 * chunk
    assert torch.equal(torch.cat(parts, dim=2), vae.decode(latents))


@LAYOUTS
def test_a_warmed_up_stream_goes_on_as_if_it_had_decoded_everything(layout: dict[str, Any]) -> None:
    vae = WanVae(random_vae(layout))
    latents = latents_of(vae.receptive_latents + 6)
    whole = vae.decode(latents)
    for start in (1, 3, vae.receptive_latents + 4):
        stream = vae.stream(latents[:, :, :start])
        frames = stream.decode(latents[:, :, start:])
        torch.testing.assert_close(frames, whole[:, :, 4 * start - 3 :], rtol=0, atol=1e-6)


@LAYOUTS
def test_the_reach_of_the_decoder_is_not_understated(layout: dict[str, Any]) -> None:
    vae = WanVae(random_vae(layout))
    reach = vae.receptive_latents
    latents = latents_of(reach + 3)
    changed = latents.clone()
    changed[:, :, 1] += 5.0
    same = vae.decode(latents)[:, :, -4:] == vae.decode(changed)[:, :, -4:]
    assert bool(same.all())


def test_streams_of_one_vae_do_not_disturb_each_other() -> None:
    vae = WanVae(random_vae(WAN_22))
    one, other = latents_of(4), latents_of(4).flip(2)
    alone = [vae.decode(one), vae.decode(other)]
    first, second = vae.stream(), vae.stream()
    parts: list[list[torch.Tensor]] = [[], []]
    for k in range(4):
        parts[0].append(first.decode(one[:, :, k : k + 1]))
        parts[1].append(second.decode(other[:, :, k : k + 1]))
        vae.encode(torch.zeros(1, 3, 1, 16, 16))
    assert torch.equal(torch.cat(parts[0], 2), alone[0])
    assert torch.equal(torch.cat(parts[1], 2), alone[1])


@LAYOUTS
def test_all_frames_at_once_equal_the_stock_loop(layout: dict[str, Any]) -> None:
    vae = random_vae(layout)
    frames = torch.rand(1, 3, 13, 16, 24) * 2 - 1
    with torch.no_grad():
        moments = vae._encode(frames)
        torch.testing.assert_close(encode_moments(vae, frames), moments, rtol=0, atol=1e-5)
        latents = moments.chunk(2, dim=1)[0]
        decoded = decode_frames(vae, latents).clamp(-1, 1)
        torch.testing.assert_close(decoded, vae.decode(latents).sample, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 8, 16, 16), "4 n \\+ 1"),
        ((1, 3, 5, 16, 20), "multiples of 8"),
        ((3, 5, 16, 16), "must be"),
    ],
)
def test_frames_that_do_not_fit_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        WanVae(random_vae(WAN_22)).encode(torch.zeros(shape))


def test_a_folder_that_is_no_vae_is_named(tmp_path: Any) -> None:
    with pytest.raises(CheckpointError, match="not a Wan VAE"):
        WanVae.load(tmp_path)


def test_a_saved_vae_loads(tmp_path: Any) -> None:
    stock = random_vae(WAN_22)
    stock.save_pretrained(tmp_path)
    loaded = WanVae.load(tmp_path)
    assert torch.equal(loaded.decode(latents_of(2)), WanVae(stock).decode(latents_of(2)))
