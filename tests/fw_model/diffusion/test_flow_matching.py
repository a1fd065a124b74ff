"""Flow matching against the equations, by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UniPCMultistepScheduler

from fw_model.cache.augment import AugmentConfig, sample_context_sigma
from fw_model.diffusion.guidance import guided
from fw_model.diffusion.objective import (
    add_noise,
    predicted_latents,
    velocity_loss,
    velocity_target,
)
from fw_model.diffusion.sampler import Cancelled, make_scheduler, sample
from fw_model.diffusion.schedule import (
    keyed_generator,
    sample_sigma,
    shift_sigma,
    sigma_of_step,
)


def draw(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_noising_and_velocity_by_hand() -> None:
    latents, noise = torch.full((1, 1), 2.0), torch.full((1, 1), 6.0)
    noisy = add_noise(latents, noise, torch.tensor([0.25]))
    assert noisy.item() == 0.75 * 2 + 0.25 * 6
    assert velocity_target(latents, noise).item() == 4.0
    assert predicted_latents(noisy, torch.full((1, 1), 4.0), torch.tensor([0.25])).item() == 2.0


def test_velocity_loss_weighted_is_the_papers_epsilon_loss() -> None:
    latents, noise, velocity = draw(1), draw(2), draw(3)
    sigma = torch.tensor([0.2, 0.9])
    noisy = add_noise(latents, noise, sigma)
    level = sigma.view(-1, 1, 1, 1, 1)
    epsilon = noisy + (1 - level) * velocity  # the noise that this velocity implies
    expected = (epsilon - noise).square().flatten(1).mean(1)
    found = velocity_loss(velocity, velocity_target(latents, noise), sigma, "epsilon_equiv")
    assert torch.allclose(found, expected, atol=1e-5)


def test_channel_weights_scale_the_squared_error() -> None:
    target = torch.zeros(1, 2, 1, 1, 1)
    velocity = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1)
    loss = velocity_loss(velocity, target, torch.zeros(1), channel_weight=torch.tensor([3.0, 0.5]))
    assert loss.item() == (3 * 1 + 0.5 * 4) / 2


def test_shift_by_hand() -> None:
    assert shift_sigma(torch.tensor(0.5), 3.0).item() == pytest.approx(0.75)
    assert shift_sigma(torch.tensor(0.3), 1.0).item() == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("mapping", "at_100", "at_400"),
    [
        ("literal", 0.10, 0.40),
        ("snr_ddpm_linear", 0.253, 0.670),
        ("shift3", 0.250, 0.667),
        ("shift5", 0.357, 0.769),
    ],
)
def test_what_a_diffusion_step_means(mapping: str, at_100: float, at_400: float) -> None:
    assert sigma_of_step(100, mapping) == pytest.approx(at_100, abs=2e-3)
    assert sigma_of_step(400, mapping) == pytest.approx(at_400, abs=2e-3)
    assert sigma_of_step(0, mapping) == 0.0


def test_sigma_draws_depend_on_their_key_alone() -> None:
    together = sample_sigma([keyed_generator(7, "sigma", g) for g in range(4)], shift=2.0)
    apart = [sample_sigma([keyed_generator(7, "sigma", g)], shift=2.0) for g in (3, 1, 0, 2)]
    assert torch.equal(together[[3, 1, 0, 2]], torch.cat(apart))
    assert not torch.equal(
        together, sample_sigma([keyed_generator(8, "sigma", g) for g in range(4)])
    )


def test_logit_normal_sigma_has_its_median_at_the_shifted_mean() -> None:
    generators = [keyed_generator(0, "sigma", g) for g in range(4000)]
    sigma = sample_sigma(generators, mean=0.0, std=1.0, shift=3.0)
    assert sigma.median().item() == pytest.approx(0.75, abs=0.02)
    assert sigma.min() > 0 and sigma.max() < 1


def test_cache_noise_stays_in_the_papers_ranges() -> None:
    generators = [keyed_generator(0, "context", g) for g in range(500)]
    keyframe = sample_context_sigma(AugmentConfig(), "keyframe", generators)
    temporal = sample_context_sigma(AugmentConfig(), "temporal", generators)
    assert keyframe.min() >= 0.1 and keyframe.max() <= 0.4 and keyframe.std() > 0.05
    assert temporal.min() >= 0.0 and temporal.max() <= 0.1
    off = sample_context_sigma(AugmentConfig(enabled=False), "keyframe", generators)
    assert off.abs().max() == 0


def test_an_unordered_step_range_is_refused() -> None:
    with pytest.raises(ValueError, match="ordered"):
        AugmentConfig(keyframe_steps=(400, 100))


@pytest.mark.parametrize("kind", ["euler", "unipc"])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_sampling_with_the_true_velocity_arrives_at_the_latents(kind: str, shift: float) -> None:
    latents, noise = draw(4), draw(5)
    steps: list[tuple[int, int]] = []
    found = sample(
        lambda x, sigma: noise - latents,
        noise,
        make_scheduler(kind, shift=shift),
        6,
        on_step=lambda done, total: steps.append((done, total)),
    )
    assert torch.allclose(found, latents, atol=2e-3)
    assert steps == [(i, 6) for i in range(1, 7)]


def test_sampling_can_be_cancelled_between_steps() -> None:
    calls: list[float] = []

    def predict(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        calls.append(float(sigma[0]))
        return x

    with pytest.raises(Cancelled, match="3/8"):
        sample(
            predict,
            draw(6),
            make_scheduler("euler", shift=1.0),
            8,
            should_cancel=lambda: len(calls) == 2,
        )


def test_guidance_by_hand() -> None:
    assert guided(torch.tensor(3.0), torch.tensor(1.0), 5.0).item() == 11.0


@pytest.mark.parametrize("kind", ["auto", "euler", "unipc"])
@pytest.mark.parametrize("saved", ["euler", "unipc"])
def test_the_saved_shift_is_kept_whichever_scheduler_is_asked_for(
    kind: str, saved: str, tmp_path: Path
) -> None:
    make_scheduler(saved, shift=5.0).save_pretrained(tmp_path)
    assert shift_of(make_scheduler(kind, shift=None, folder=tmp_path)) == 5.0
    assert shift_of(make_scheduler(kind, shift=2.0, folder=tmp_path)) == 2.0


def shift_of(scheduler: Any) -> float:
    unipc = isinstance(scheduler, UniPCMultistepScheduler)
    return float(scheduler.config.flow_shift if unipc else scheduler.config.shift)
