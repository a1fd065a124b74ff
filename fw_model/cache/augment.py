"""Asymmetric noise on the caches (FilmWeaver, "Data augmentation").

Keyframes get strong noise (steps 100-400 of 1000), so the model takes identity from them and not
pixels; history gets weak noise (0-100), so motion stays anchored. The model gets the noise level as
the segment's sigma.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from fw_model.config import StrictModel
from fw_model.diffusion.schedule import NoiseMapping, sigma_of_step

StepRange = tuple[float, float]


class AugmentConfig(StrictModel):
    """Noise levels of the caches in training; recorded in the checkpoint."""

    enabled: bool = Field(True, description="If false, caches carry no noise (ablation w/o A).")
    keyframe_steps: StepRange = Field(
        (100.0, 400.0), description="Diffusion steps of 1000 for keyframes; the paper: 100-400."
    )
    temporal_steps: StepRange = Field(
        (0.0, 100.0), description="Diffusion steps of 1000 for history; the paper: 0-100."
    )
    mapping: NoiseMapping = Field(
        "literal", description="How a diffusion step maps to sigma; literal: step / 1000."
    )

    @model_validator(mode="after")
    def _ordered(self) -> AugmentConfig:
        for low, high in (self.keyframe_steps, self.temporal_steps):
            if not 0 <= low <= high <= 1000:
                raise ValueError(
                    f"a step range must be ordered and within 0-1000, got {low}-{high}"
                )
        return self

    def sigma_range(self, role: Literal["keyframe", "temporal"]) -> tuple[float, float]:
        """Return the lowest and highest sigma of `role`'s latents in training."""
        if not self.enabled:
            return 0.0, 0.0
        low, high = self.keyframe_steps if role == "keyframe" else self.temporal_steps
        return sigma_of_step(low, self.mapping), sigma_of_step(high, self.mapping)


def sample_context_sigma(
    config: AugmentConfig, role: Literal["keyframe", "temporal"], generators: list[torch.Generator]
) -> Tensor:
    """Sample one sigma per generator, uniform over `role`'s range: [B]."""
    low, high = config.sigma_range(role)
    uniform = torch.cat([torch.rand(1, generator=g) for g in generators])  # [B]
    return low + (high - low) * uniform
