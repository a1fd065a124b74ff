"""From noise to latents with a diffusers flow-matching scheduler.

Knows nothing about caches: `predict` hides them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SchedulerMixin, UniPCMultistepScheduler
from torch import Tensor

SchedulerKind = Literal["auto", "euler", "unipc"]
Predict = Callable[[Tensor, Tensor], Tensor]
NUM_TRAIN_TIMESTEPS = 1000


class Cancelled(Exception):
    """Generation was asked to stop between two denoising steps; nothing was produced."""


def make_scheduler(
    kind: SchedulerKind, *, shift: float | None, folder: Path | None = None
) -> SchedulerMixin:
    """Return a scheduler of `kind`; `auto` takes the one saved in `folder`, else Euler.

    `shift` None keeps the timestep shift saved in `folder`, whatever kind was saved there; the
    default is 1.
    """
    saved: dict[str, Any] = {}
    if folder is not None and (folder / "scheduler_config.json").is_file():
        saved = dict(FlowMatchEulerDiscreteScheduler.load_config(str(folder)))
    saved_kind: SchedulerKind = (
        "unipc" if saved.get("_class_name") == "UniPCMultistepScheduler" else "euler"
    )
    if shift is None:
        shift = saved.get("flow_shift" if saved_kind == "unipc" else "shift", 1.0)
    if kind == "auto":
        kind = saved_kind
    settings = saved if kind == saved_kind else {}  # the kinds have no other settings in common
    if kind == "unipc":
        flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": shift}
        return UniPCMultistepScheduler.from_config(settings | flow)
    return FlowMatchEulerDiscreteScheduler.from_config(settings | {"shift": shift})


@torch.no_grad()
def sample(
    predict: Predict,
    noise: Tensor,
    scheduler: SchedulerMixin,
    num_inference_steps: int,
    *,
    on_step: Callable[[int, int], None] | None = None,
    should_cancel: Callable[[], bool] | None = None,
) -> Tensor:
    """Denoise `noise` [B, C, F, H, W] with `predict(latents, sigma [B]) -> velocity`.

    `on_step(done, total)` is called after each step. `should_cancel` is called before each step;
    if it returns True, Cancelled is raised.
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
