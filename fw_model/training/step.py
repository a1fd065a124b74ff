"""One forward pass of training: batch -> segments -> predicted velocity -> loss.

Every random number is keyed by (seed, purpose, sample index), so a sample gets the same noise on
any worker and after any restart. B samples, R noises per sample, K keyframes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from fw_model.backbones.context_patch import kernel_name
from fw_model.backbones.wan import WanBackbone
from fw_model.cache.augment import sample_context_sigma
from fw_model.cache.context import ContextLatents, TokenSegment, context_segments, target_segment
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
    """The result of one forward pass. All but `loss` are detached."""

    loss: Tensor  # scalar, the mean over samples and noises
    sample_loss: Tensor  # [B R]
    sigma: Tensor  # [B R]
    copy_leak: Tensor  # scalar, see `copy_leak`


class TrainingModel(nn.Module):
    """The backbone and its objective in one module, which an engine runs."""

    def __init__(
        self, backbone: WanBackbone, config: TrainingConfig, *, max_text_tokens: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self._config = config
        self._max_text_tokens = max_text_tokens

    def forward(self, batch: Batch) -> StepOutput:
        """Return the loss of `batch`; its sample indices determine noise and noise levels."""
        device = next(self.backbone.parameters()).device
        bfloat16 = self._config.precision == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return self._forward(batch, device)

    def _forward(self, batch: Batch, device: torch.device) -> StepOutput:
        repeats = self._config.noises_per_context
        samples = batch.sample_indices.tolist()
        keys = [(sample, repeat) for sample in samples for repeat in range(repeats)]  # B R
        context = self._context(batch, samples, device)
        clean = _latents(batch.target, device)  # [B, C, F, h, w]
        clean = clean.repeat_interleave(repeats, dim=0)  # [B R, C, F, h, w]
        noise = self._noise("noise", keys, clean)
        sigma = self._target_sigma(keys).to(device)  # [B R]
        noisy = add_noise(clean, noise, sigma)
        text = self._text(batch.text, device).repeat_interleave(repeats, dim=0)
        velocity = self._velocity(context, target_segment(noisy, sigma, text), repeats)
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
            leak = copy_leak(predicted[::repeats], clean[::repeats], keyframes)
        loss = per_sample.mean() + self._touch_unused(context)
        return StepOutput(loss, per_sample.detach(), sigma, leak)

    def _velocity(self, context: list[TokenSegment], target: TokenSegment, repeats: int) -> Tensor:
        """Predict the target's velocity; the context is encoded once for all of its noises."""
        if repeats == 1 or self.backbone.cache.visibility == "full":
            velocity: Tensor = self.backbone([*(_repeat(s, repeats) for s in context), target])
            return velocity
        encoded = self.backbone.encode_context(context).repeat(repeats) if context else None
        return self.backbone.predict(target, encoded)

    def _context(
        self, batch: Batch, samples: list[int], device: torch.device
    ) -> list[TokenSegment]:
        keyframes = [
            self._noised(
                "keyframe",
                batch.keyframes[:, slot],  # [B, C, 1, h, w]
                batch.keyframe_text[:, slot],
                [(sample, slot) for sample in samples],
                device,
            )
            for slot in range(batch.keyframes.shape[1])
        ]
        history = None
        if batch.history.shape[2]:
            keys = [(sample, 0) for sample in samples]
            history = self._noised("temporal", batch.history, batch.history_text, keys, device)
        return context_segments(self.backbone.cache, keyframes=keyframes, history=history)

    def _noised(
        self,
        role: Literal["keyframe", "temporal"],
        latents: Float16s,
        text: Float16s,
        keys: list[tuple[int, int]],
        device: torch.device,
    ) -> ContextLatents:
        """Return context latents [B, C, F, h, w] with the noise of `role`'s augmentation."""
        clean = _latents(latents, device)
        generators = self._generators(f"{role}_sigma", keys)
        sigma = sample_context_sigma(self._config.augment, role, generators).to(device)
        noisy = add_noise(clean, self._noise(f"{role}_noise", keys, clean), sigma)
        return ContextLatents(noisy, sigma, self._text(text, device))

    def _touch_unused(self, context: list[TokenSegment]) -> Tensor:
        """Return zero, computed with the tier embeddings that this batch does not use.

        Then every parameter has a gradient at every step, so all engines' optimizers do the same,
        and every rank calls the same modules.
        """
        used = {kernel_name(s.kernel) for s in context if s.kernel is not None}
        zero = torch.zeros((), device=next(self.backbone.parameters()).device)
        for name, embed in self.backbone.context_patch.items():
            if name not in used:
                assert isinstance(embed, nn.Conv3d)
                cell = (1, embed.in_channels, *map(int, name.split("x")))
                zero = zero + 0.0 * embed(torch.zeros(cell, device=zero.device)).sum()
        return zero

    def _target_sigma(self, keys: list[tuple[int, int]]) -> Tensor:
        objective = self._config.objective
        return sample_sigma(
            self._generators("sigma", keys),
            mean=objective.sigma_mean,
            std=objective.sigma_std,
            shift=objective.sigma_shift,
        )

    def _noise(self, purpose: str, keys: list[tuple[int, int]], like: Tensor) -> Tensor:
        """Return one normal tensor per key, each with the shape of a sample of `like`."""
        noises = [torch.randn(like.shape[1:], generator=g) for g in self._generators(purpose, keys)]
        return torch.stack(noises).to(like.device)

    def _generators(self, purpose: str, keys: list[tuple[int, int]]) -> list[torch.Generator]:
        return [keyed_generator(self._config.seed, purpose, *key) for key in keys]

    def _text(self, text: Float16s, device: torch.device) -> Tensor:
        return pad_text(text, self._max_text_tokens, device)


def copy_leak(predicted: Tensor, truth: Tensor, keyframes: Tensor) -> Tensor:
    """Return how much closer `predicted` [B, C, F, h, w] is to a keyframe than to `truth`.

    `keyframes` [B, K, C, 1, h, w] are without noise. For each predicted latent: its cosine with the
    closest keyframe minus its cosine with the truth; then the mean, NaN without keyframes. A value
    near or above zero means that the model copies.
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


def _repeat(segment: TokenSegment, count: int) -> TokenSegment:
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
