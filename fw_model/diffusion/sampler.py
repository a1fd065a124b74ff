"""From noise to latents with a diffusers flow-matching scheduler.

Knows nothing of caches: `predict` hides them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from torch import Tensor

SchedulerKind = Literal["auto", "euler", "unipc"]
Predict = Callable[[Tensor, Tensor], Tensor]
NUM_TRAIN_TIMESTEPS = 1000


class Cancelled(Exception):
    """Generation was asked to stop between two denoising steps; nothing was produced."""


def make_scheduler(kind: SchedulerKind, *, shift: float | None, folder: Path | None = None) -> Any:
    """Return a scheduler of `kind`; `auto` takes the one saved in `folder`, else Euler.

    `shift` None keeps the saved (or the default) timestep shift.
    """
    if kind == "auto" and folder is not None and (folder / "scheduler_config.json").is_file():
        config = FlowMatchEulerDiscreteScheduler.load_config(str(folder))
        if config.get("_class_name") == "UniPCMultistepScheduler":
            over = {} if shift is None else {"flow_shift": shift}
            return UniPCMultistepScheduler.from_config(config, **over)
        over = {} if shift is None else {"shift": shift}
        return FlowMatchEulerDiscreteScheduler.from_config(config, **over)
    if kind == "unipc":
        return UniPCMultistepScheduler(
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=1.0 if shift is None else shift,
        )
    return FlowMatchEulerDiscreteScheduler(shift=1.0 if shift is None else shift)


@torch.no_grad()
def sample(
    predict: Predict,
    noise: Tensor,
    scheduler: Any,
    num_inference_steps: int,
    *,
    on_step: Callable[[int, int], None] | None = None,
    should_cancel: Callable[[], bool] | None = None,
) -> Tensor:
    """Denoise `noise` [B, C, F, H, W] with `predict(latents, sigma [B]) -> velocity`.

    `on_step(done, total)` is called after each step; `should_cancel` is asked before each one and
    Cancelled is raised if it says so.
    """
    scheduler.set_timesteps(num_inference_steps, device=noise.device)
    latents = noise
    for index, timestep in enumerate(scheduler.timesteps):
        if should_cancel is not None and should_cancel():
            raise Cancelled(f"cancelled before denoising step {index + 1}/{num_inference_steps}")
        sigma = (timestep.float() / NUM_TRAIN_TIMESTEPS).expand(latents.shape[0])  # [B]
        velocity = predict(latents, sigma)
        latents = scheduler.step(velocity, timestep, latents, return_dict=False)[0]
        if on_step is not None:
            on_step(index + 1, num_inference_steps)
    return latents


def guided(conditional: Tensor, unconditional: Tensor, guidance_scale: float) -> Tensor:
    """Return the classifier-free guided velocity (Ho and Salimans 2022)."""
    return unconditional + guidance_scale * (conditional - unconditional)
