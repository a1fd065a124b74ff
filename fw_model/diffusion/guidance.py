"""Guides the velocity away from a prediction made without the text, or without some layers."""

from __future__ import annotations

from pydantic import Field, model_validator
from torch import Tensor

from fw_model.config import StrictModel


class SkipLayerGuidance(StrictModel):
    """Skip-layer guidance: away from the prediction of the transformer without some layers.

    For video it is known as spatiotemporal skip guidance (Hyung et al. 2024). It sharpens the
    results of a small model or of few steps.
    """

    scale: float = Field(0.0, ge=0, le=20, description="Strength; 0 switches it off.")
    layers: tuple[int, ...] = Field(
        (), description="Layers that the target's tokens bypass, counted from 0."
    )
    above: float = Field(0.0, ge=0, le=1, description="Noise level at which it ends.")
    below: float = Field(1.0, ge=0, le=1, description="Noise level at which it starts.")

    @model_validator(mode="after")
    def _checked(self) -> SkipLayerGuidance:
        if self.scale > 0 and not self.layers:
            raise ValueError("scale is set but no layers are named; give layers: [N]")
        if self.above >= self.below:
            raise ValueError(f"above ({self.above}) must be less than below ({self.below})")
        return self

    def acts_at(self, sigma: float) -> bool:
        """Return whether a denoising step at noise level `sigma` is guided."""
        return self.scale > 0 and self.above <= sigma <= self.below


def guided(conditional: Tensor, unconditional: Tensor, guidance_scale: float) -> Tensor:
    """Return the classifier-free guided velocity (Ho and Salimans 2022)."""
    return unconditional + guidance_scale * (conditional - unconditional)
