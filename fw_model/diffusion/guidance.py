"""Velocities turned away from what a weaker prediction gives: without the text, without layers."""

from __future__ import annotations

from pydantic import Field, model_validator
from torch import Tensor

from fw_model.config import StrictModel


class SkipLayerGuidance(StrictModel):
    """Skip-layer guidance: away from what the transformer predicts without some of its layers.

    Known as spatiotemporal skip guidance (Hyung et al. 2024) for video; it sharpens what a small
    or hurried model blurs.
    """

    scale: float = Field(default=0.0, ge=0, le=20, description="How far away; 0 switches it off.")
    layers: tuple[int, ...] = Field(
        default=(), description="Layers that the target's tokens pass by, counted from 0."
    )
    above: float = Field(default=0.0, ge=0, le=1, description="Noise level where it ends.")
    below: float = Field(default=1.0, ge=0, le=1, description="Noise level where it begins.")

    @model_validator(mode="after")
    def _checked(self) -> SkipLayerGuidance:
        if self.scale > 0 and not self.layers:
            raise ValueError("scale is set but no layers are named; give layers: [N]")
        if self.above >= self.below:
            raise ValueError(f"above ({self.above}) must be less than below ({self.below})")
        return self

    def acts_at(self, sigma: float) -> bool:
        """Tell whether a denoising step at noise level `sigma` is guided."""
        return self.scale > 0 and self.above <= sigma <= self.below


def guided(conditional: Tensor, unconditional: Tensor, guidance_scale: float) -> Tensor:
    """Return the classifier-free guided velocity (Ho and Salimans 2022)."""
    return unconditional + guidance_scale * (conditional - unconditional)
