"""One forward of training: batch -> segments -> predicted velocity -> loss.

Every random draw is keyed by (seed, purpose, sample number), so a sample meets the same noise on
any worker and after any restart. B samples, R noise draws a sample, K keyframes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fw_model.backbones.wan import WanBackbone
from fw_model.cache.augment import draw_context_sigma
from fw_model.cache.context import ContextLatents, Segment, context_segments, target_segment
from fw_model.diffusion.objective import (
    add_noise,
    predicted_latents,
    velocity_loss,
    velocity_target,
)
from fw_model.diffusion.schedule import keyed_generator, sample_sigma
from fw_model.training.config import TrainingConfig
from fw_model.training.data.batch import Batch, Float16s, pad_text


class StepOutput(NamedTuple):
    """What one forward gives. All but `loss` are detached.

    loss: scalar, the mean over samples and noise draws; sample_loss, sigma [B * R]; copy_leak: mean
    over samples of how much more the prediction is like a keyframe than like the truth, NaN where
    the shot cache is empty.
    """

    loss: Tensor
    sample_loss: Tensor
    sigma: Tensor
    copy_leak: Tensor


class TrainingModel(nn.Module):
    """The backbone with its objective around it: what an engine runs forward and backward."""

    def __init__(
        self, backbone: WanBackbone, config: TrainingConfig, *, max_text_tokens: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self._config = config
        self._max_text_tokens = max_text_tokens

    def forward(self, batch: Batch) -> StepOutput:
        """Return the loss of `batch`; noise and levels follow from its sample numbers."""
        device = next(self.backbone.parameters()).device
        bfloat16 = self._config.precision == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return self._forward(batch, device)

    def _forward(self, batch: Batch, device: torch.device) -> StepOutput:
        draws = self._config.noises_per_context
        numbers = [int(g) for g in batch.g]
        context = self._context(batch, numbers, device)
        clean = _latents(batch.target, device).repeat_interleave(draws, dim=0)  # [B R, C, F, h, w]
        noise = self._noise("noise", [(g, r) for g in numbers for r in range(draws)], clean)
        sigma = self._target_sigma(numbers, draws).to(device)  # [B R]
        noisy = add_noise(clean, noise, sigma)
        text = self._text(batch.text, device).repeat_interleave(draws, dim=0)
        velocity = self._velocity(context, target_segment(noisy, sigma, text), draws)
        channel_weight = self._config.objective.channel_weight
        per_sample = velocity_loss(
            velocity,
            velocity_target(clean, noise),
            sigma,
            self._config.objective.parameterization,
            None if channel_weight is None else torch.tensor(channel_weight),
        )  # [B R]
        with torch.no_grad():
            predicted = predicted_latents(noisy, velocity.detach().float(), sigma)
            keyframes = _latents(batch.keyframes, device)
            leak = copy_leak(predicted[::draws], clean[::draws], keyframes)
        loss = per_sample.mean() + self._touch_unused(context)
        return StepOutput(loss, per_sample.detach(), sigma, leak)

    def _velocity(self, context: list[Segment], target: Segment, draws: int) -> Tensor:
        """Predict the target's velocity, passing its context once for all its noise draws."""
        if draws == 1 or self.backbone.cache.visibility == "full":
            velocity: Tensor = self.backbone([*(_repeat(s, draws) for s in context), target])
            return velocity
        encoded = self.backbone.encode_context(context).repeat(draws) if context else None
        return self.backbone.predict(target, encoded)

    def _context(self, batch: Batch, numbers: list[int], device: torch.device) -> list[Segment]:
        keyframes = []
        for slot in range(batch.keyframes.shape[1]):
            keys = [(g, slot) for g in numbers]
            clean = _latents(batch.keyframes[:, slot], device)  # [B, C, 1, h, w]
            sigma = self._context_sigma("keyframe", keys).to(device)
            noisy = add_noise(clean, self._noise("keyframe_noise", keys, clean), sigma)
            text = self._text(batch.keyframe_text[:, slot], device)
            keyframes.append(ContextLatents(noisy, sigma, text))
        history = None
        if batch.history.shape[2]:
            keys = [(g, 0) for g in numbers]
            clean = _latents(batch.history, device)  # [B, C, H, h, w]
            sigma = self._context_sigma("temporal", keys).to(device)
            noisy = add_noise(clean, self._noise("temporal_noise", keys, clean), sigma)
            history = ContextLatents(noisy, sigma, self._text(batch.history_text, device))
        return context_segments(self.backbone.cache, keyframes=keyframes, history=history)

    def _touch_unused(self, context: list[Segment]) -> Tensor:
        """Return zero, by way of the tier embeddings that this batch does not use.

        Every parameter then has a gradient at every step, which makes the optimizer do the same
        under every engine and every rank call the same modules.
        """
        used = {"x".join(map(str, s.kernel)) for s in context if s.kernel is not None}
        zero = torch.zeros((), device=next(self.backbone.parameters()).device)
        for name, embed in self.backbone.context_patch.items():
            if name not in used:
                assert isinstance(embed, nn.Conv3d)
                cell = (1, embed.in_channels, *map(int, name.split("x")))
                zero = zero + 0.0 * embed(torch.zeros(cell, device=zero.device)).sum()
        return zero

    def _target_sigma(self, numbers: list[int], draws: int) -> Tensor:
        objective = self._config.objective
        seed = self._config.seed
        return sample_sigma(
            [keyed_generator(seed, "sigma", g, r) for g in numbers for r in range(draws)],
            mean=objective.sigma_mean,
            std=objective.sigma_std,
            shift=objective.sigma_shift,
        )

    def _context_sigma(
        self, role: Literal["keyframe", "temporal"], keys: list[tuple[int, int]]
    ) -> Tensor:
        generators = [keyed_generator(self._config.seed, f"{role}_sigma", *key) for key in keys]
        return draw_context_sigma(self._config.augment, role, generators)

    def _noise(self, purpose: str, keys: list[tuple[int, int]], like: Tensor) -> Tensor:
        """Draw one normal tensor per key, each of the shape of a sample of `like`."""
        shape = like.shape[1:]
        drawn = [
            torch.randn(shape, generator=keyed_generator(self._config.seed, purpose, *key))
            for key in keys
        ]
        return torch.stack(drawn).to(like.device)

    def _text(self, text: Float16s, device: torch.device) -> Tensor:
        return pad_text(text, self._max_text_tokens, device)


def copy_leak(predicted: Tensor, truth: Tensor, keyframes: Tensor) -> Tensor:
    """Return how much more `predicted` [B, C, F, h, w] is like a keyframe than like `truth`.

    `keyframes` [B, K, C, 1, h, w] before noise. Cosine of each predicted latent with the most alike
    keyframe, less its cosine with the truth, averaged; NaN without keyframes. Near or above zero
    means that the model copies.
    """
    if keyframes.shape[1] == 0:
        return torch.full((), float("nan"), device=predicted.device)
    frames = predicted.transpose(1, 2).flatten(2)  # [B, F, C h w]
    true_frames = truth.transpose(1, 2).flatten(2)
    memory = keyframes.flatten(2)  # [B, K, C h w]
    unit = torch.nn.functional.normalize
    to_cache = unit(frames, dim=2) @ unit(memory, dim=2).transpose(1, 2)  # [B, F, M]
    to_truth = (unit(frames, dim=2) * unit(true_frames, dim=2)).sum(2)  # [B, F]
    return (to_cache.amax(2) - to_truth).mean()


def _repeat(segment: Segment, count: int) -> Segment:
    if count == 1:
        return segment
    return replace(
        segment,
        latents=segment.latents.repeat_interleave(count, dim=0),
        sigma=segment.sigma.repeat_interleave(count, dim=0),
        text=segment.text.repeat_interleave(count, dim=0),
    )


def _latents(values: Float16s, device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device, torch.float32)
