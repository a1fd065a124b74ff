"""Training of the small VAE and CLIP: the closed-form encoder, learning, and exact resumption."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from fw_model.embedders.clip import OpenClipEmbedder
from fw_model.errors import CheckpointError, ConfigError, DataError
from fw_model.optim.muon import orthogonalise
from fw_model.pretraining.clip import EmbedderPretrainConfig, pretrain_embedder
from fw_model.pretraining.shot_library import ShotLibrary, ShotSource
from fw_model.pretraining.vae import (
    VaePretrainConfig,
    VaeStage,
    build_vae,
    change_of,
    fit_encoder,
    pretrain_vae,
    sample_whole_clips,
)
from fw_model.pretraining.vae_pca_encoder import fit_linear_encoder, latent_mode
from fw_model.text_encoders.clip import ClipTextEncoder
from fw_model.vaes.wan import WanVae

CODEC = VaePretrainConfig(
    decoder_base_dim=8,
    latent_channels=12,
    static_channels=8,
    num_fit_clips=24,
    stages=(VaeStage(steps=4, crop_px=16, num_frames=5, batch_size=2),),
    log_every=1,
    save_every=2,
    num_validation_clips=1,
)


def shapes_library(num_shots: int = 8, num_frames: int = 13) -> ShotLibrary:
    """Discs that move over plain grounds, 32x32."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32]
    frames, shots, starts = [], [], []
    for index in range(num_shots):
        ground, disc = rng.integers(0, 255, (2, 3))
        start, speed = rng.uniform(8, 24, 2), rng.uniform(-1, 1, 2)
        starts.append(len(frames))
        for number in range(num_frames):
            centre = start + speed * number
            inside = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 30)[..., None]
            frames.append(np.where(inside, disc, ground).astype(np.uint8))
        bright = "bright" if ground.sum() > 380 else "dark"
        shots.append(ShotSource(str(index), 0, num_frames, f"a {bright} ground", (bright, "disc")))
    return ShotLibrary(np.stack(frames), shots, starts)


@pytest.fixture(scope="module")
def library() -> ShotLibrary:
    return shapes_library()


def test_the_linear_encoder_is_linear_but_for_its_norm(library: ShotLibrary) -> None:
    vae = build_vae(CODEC)
    clips = sample_whole_clips(library, 24, num_frames=9, seed=0)
    kept = fit_linear_encoder(vae, clips, static_channels=8)
    assert 0.8 < kept <= 1.0
    first, second = clips[:1], clips[1:2]
    middle = latent_mode(vae, (first + second) / 2)
    torch.testing.assert_close(
        middle, (latent_mode(vae, first) + latent_mode(vae, second)) / 2, rtol=0, atol=0.1
    )


def test_a_still_shot_has_the_same_latents_all_along(library: ShotLibrary) -> None:
    vae = build_vae(CODEC)
    fit_linear_encoder(
        vae, sample_whole_clips(library, 24, num_frames=9, seed=0), static_channels=8
    )
    still = sample_whole_clips(library, 1, num_frames=9, seed=1)[:, :, :1].repeat(1, 1, 9, 1, 1)
    latents = latent_mode(vae, still)[:, :8]
    torch.testing.assert_close(
        latents[:, :, 1:], latents[:, :, :1].repeat(1, 1, 2, 1, 1), rtol=0, atol=0.03
    )


def test_fitted_latents_have_spread_one_as_a_whole(library: ShotLibrary) -> None:
    vae = build_vae(CODEC)
    fit_encoder(CODEC, vae, library)
    frames = sample_whole_clips(library, 24, num_frames=9, seed=CODEC.seed)
    latents = WanVae(vae).encode(frames)
    assert latents.mean().item() == pytest.approx(0.0, abs=0.02)
    assert latents.square().mean().item() == pytest.approx(1.0, abs=0.05)
    spread = latents.transpose(0, 1).flatten(1).std(1)
    assert spread[0] > 1.5 * spread[7]


def test_a_vae_of_another_shape_is_refused(library: ShotLibrary) -> None:
    clips = sample_whole_clips(library, 2, num_frames=9, seed=0)
    with pytest.raises(ConfigError, match="widen base_dim"):
        fit_linear_encoder(
            build_vae(CODEC.model_copy(update={"base_dim": 48})), clips, static_channels=8
        )


def test_vae_training_goes_on_exactly_where_it_was_stopped(
    library: ShotLibrary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain_vae(CODEC, library, library, tmp_path / "whole")

    calls = 0

    def dies(*args: object, **kwargs: object) -> dict[str, float]:
        nonlocal calls
        calls += 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("fw_model.pretraining.vae.measure", dies)
        with pytest.raises(KeyboardInterrupt):
            pretrain_vae(CODEC, library, library, tmp_path / "parts")
    pretrain_vae(CODEC, library, library, tmp_path / "parts")
    assert calls == 1
    for name in ("whole", "parts"):
        assert _losses(tmp_path / name)[-1][0] == 4
    assert _losses(tmp_path / "parts") == _losses(tmp_path / "whole")
    one, other = (
        AutoencoderKLWan.from_pretrained(tmp_path / name / "vae") for name in ("whole", "parts")
    )
    for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def test_a_run_of_other_settings_is_not_gone_on_with(library: ShotLibrary, tmp_path: Path) -> None:
    pretrain_vae(CODEC, library, library, tmp_path)
    with pytest.raises(CheckpointError, match="other settings"):
        pretrain_vae(CODEC.model_copy(update={"seed": 1}), library, library, tmp_path)


def test_training_leaves_the_latents_as_they_are(library: ShotLibrary, tmp_path: Path) -> None:
    pretrain_vae(CODEC, library, library, tmp_path)
    fitted = build_vae(CODEC)
    fit_encoder(CODEC, fitted, library)
    frames = sample_whole_clips(library, 1, num_frames=9, seed=3)
    torch.testing.assert_close(
        WanVae.load(tmp_path / "vae").encode(frames), WanVae(fitted).encode(frames)
    )


def test_a_decoder_goes_on_from_another_run_with_the_same_latents(
    library: ShotLibrary, tmp_path: Path
) -> None:
    pretrain_vae(CODEC, library, library, tmp_path / "first")
    more = CODEC.model_copy(update={"start_from": str(tmp_path / "first" / "vae"), "seed": 1})
    pretrain_vae(more, library, library, tmp_path / "second")
    first, second = (WanVae.load(tmp_path / name / "vae") for name in ("first", "second"))
    frames = sample_whole_clips(library, 1, num_frames=9, seed=3)
    latents = first.encode(frames)
    assert torch.equal(latents, second.encode(frames))
    assert not torch.equal(first.decode(latents), second.decode(latents))
    with pytest.raises(CheckpointError, match="There is no VAE"):
        pretrain_vae(
            CODEC.model_copy(update={"start_from": str(tmp_path)}), library, library, tmp_path / "x"
        )


def test_change_counts_how_much_moves_not_where_to() -> None:
    frames = torch.zeros(1, 3, 3, 8, 8)
    frames[:, :, 1, 0, 0] = 1.0  # a pixel lights up, and moves on within its 4x4
    frames[:, :, 2, 1, 1] = 1.0
    change = change_of(frames)
    assert change.shape == (1, 3, 2, 2, 2)
    assert change[0, 0, :, 0, 0].tolist() == [1 / 16, 2 / 16]
    assert change[..., 1].abs().max() == 0


def test_clip_learns_what_captions_say(library: ShotLibrary, tmp_path: Path) -> None:
    config = EmbedderPretrainConfig(
        image_size=32, image_width=32, image_layers=1, text_width=32, text_layers=1,
        head_width=16, embed_dim=16, vocab_size=300, batch_size=8, steps=40, warmup_steps=4,
    )  # fmt: skip
    result = pretrain_embedder(config, library, library, tmp_path / "one")
    assert result["tag_accuracy_fact_0"] >= 0.75
    kept = config.model_copy(
        update={"text_from": str(tmp_path / "one" / "clip"), "steps": 2, "image_width": 48}
    )
    pretrain_embedder(kept, library, library, tmp_path / "two")
    prompts = ["a dark ground", "anything else"]
    one, two = (ClipTextEncoder.load(tmp_path / n / "clip") for n in ("one", "two"))
    torch.testing.assert_close(one.encode(prompts), two.encode(prompts))
    assert OpenClipEmbedder.load(tmp_path / "two" / "clip").width == 16


def test_clip_needs_captions(tmp_path: Path) -> None:
    plain = shapes_library(2)
    silent = [ShotSource(s.video, s.start_frame, s.end_frame) for s in plain.shots]
    library = ShotLibrary(plain.frames, silent, [0, 13])
    with pytest.raises(DataError, match="captions"):
        pretrain_embedder(EmbedderPretrainConfig(), library, library, tmp_path)


def test_an_orthogonalised_update_has_singular_values_near_one() -> None:
    matrices = torch.randn(3, 12, 40, generator=torch.Generator().manual_seed(0))
    together = orthogonalise(matrices)
    values = torch.linalg.svdvals(together)
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    for one, of_many in zip(matrices, together, strict=True):
        torch.testing.assert_close(orthogonalise(one[None])[0], of_many)
    torch.testing.assert_close(orthogonalise(matrices.mT), together.mT)


def _losses(folder: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]
