"""The packaged VAE and CLIP do their work on a film that they were not trained on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fw_model.embedders.clip import OpenClipEmbedder
from fw_model.loading.folders import TINY
from fw_model.media.video import uint8_to_frames
from fw_model.vaes.wan import WanVae
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.prompts import shot_prompt
from pipelines.toyfilms.render import render_shot
from pipelines.toyfilms.story import sample_film

HELD_OUT_SEEDS = range(900_000, 900_006)
MOST_BYTES = 10_000_000


@pytest.fixture(scope="module")
def vae() -> WanVae:
    return WanVae.load(TINY / "vae")


@pytest.fixture(scope="module")
def shots() -> list[tuple[str, str, np.ndarray]]:
    """Place, prompt and frames [F, H, W, 3] of every shot of a few films."""
    config = ToyFilmsConfig(max_shot_s=2.0)
    found = []
    for seed in HELD_OUT_SEEDS:
        film = sample_film(seed, config)
        for index, shot in enumerate(film.shots):
            frames = render_shot(film, index, width=64, height=64)
            found.append((film.places[shot.place].kind, shot_prompt(film, index), frames))
    return found


def test_weights_are_small() -> None:
    files = [p for part in ("vae", "clip") for p in (TINY / part).rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < MOST_BYTES


def test_frames_come_back_recognisable(
    vae: WanVae, shots: list[tuple[str, str, np.ndarray]]
) -> None:
    errors = []
    for _, _, pixels in shots[:6]:
        frames = uint8_to_frames(pixels[:21])
        errors.append(float((vae.decode(vae.encode(frames)) - frames).square().mean() / 4))
    assert -10 * math.log10(np.mean(errors)) > 20.0


def test_latents_have_spread_one_as_a_whole(
    vae: WanVae, shots: list[tuple[str, str, np.ndarray]]
) -> None:
    latents = torch.cat([vae.encode(uint8_to_frames(p[:9])) for _, _, p in shots], dim=2)
    assert 0.7 < latents.square().mean().item() < 1.4


def test_a_picture_encodes_alike_alone_and_as_the_start_of_a_shot(
    vae: WanVae, shots: list[tuple[str, str, np.ndarray]]
) -> None:
    frames = uint8_to_frames(shots[0][2][:9])
    torch.testing.assert_close(
        vae.encode(frames[:, :, :1]), vae.encode(frames)[:, :, :1], rtol=0, atol=1e-4
    )


def test_a_cold_stream_goes_on_with_the_same_frames(
    vae: WanVae, shots: list[tuple[str, str, np.ndarray]]
) -> None:
    latents = vae.encode(uint8_to_frames(shots[0][2][:21]))
    latents = latents.repeat(1, 1, 6, 1, 1)[:, :, : vae.receptive_latents + 5]
    whole = vae.decode(latents)
    start = vae.receptive_latents + 3
    cold = vae.stream(latents[:, :, :start]).decode(latents[:, :, start:])
    torch.testing.assert_close(cold, whole[:, :, 4 * start - 3 :], rtol=0, atol=1e-6)


def test_a_prompt_finds_a_picture_of_its_place(
    shots: list[tuple[str, str, np.ndarray]],
) -> None:
    embedder = OpenClipEmbedder.load(TINY / "clip")
    pictures = embedder.embed_images([pixels[len(pixels) // 2] for _, _, pixels in shots])
    prompts = embedder.embed_text([prompt for _, prompt, _ in shots])
    scores = prompts @ pictures.T  # [prompts, pictures]
    scores.fill_diagonal_(-1)  # its own shot would be too easy
    best = scores.argmax(1).tolist()
    right = [shots[row][0] == shots[column][0] for row, column in enumerate(best)]
    assert np.mean(right) > 0.6
