"""Settings of the toy films: how many, how large, how long, and how often things happen."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from fw_model.config import StrictModel


class ToyFilmsConfig(StrictModel):
    """What to render. A film's content depends only on its seed and on the fields from `fps` on,
    so any machine renders the same film."""

    first_seed: int = Field(0, ge=0, description="Seed of the first film; film i has seed + i.")
    num_films: int = Field(16, ge=1, le=1_000_000, description="How many films to render.")
    width: int = Field(64, ge=16, le=4096, description="Frame width in pixels.")
    height: int = Field(64, ge=16, le=4096, description="Frame height in pixels.")
    crf: int = Field(14, ge=0, le=51, description="H.264 quality; lower is better and larger.")
    fps: int = Field(12, ge=1, le=120, description="Frames per second.")
    min_shots: int = Field(4, ge=1, le=64, description="Fewest shots in a film.")
    max_shots: int = Field(6, ge=1, le=64, description="Most shots in a film.")
    min_shot_s: float = Field(2.0, ge=0.5, le=120, description="Shortest shot, in seconds.")
    max_shot_s: float = Field(5.0, ge=0.5, le=120, description="Longest shot, in seconds.")
    max_scenes: int = Field(3, ge=1, le=16, description="Most scenes in a film.")
    place_return_probability: float = Field(
        0.6, ge=0, le=1, description="Chance that a scene goes back to the place of an earlier one."
    )
    two_figures_probability: float = Field(
        0.4, ge=0, le=1, description="Chance that a film has a second figure."
    )
    always_together: bool = Field(
        False, description="Show both figures of a film in all its scenes, except in close shots."
    )
    pan_probability: float = Field(0.2, ge=0, le=1, description="Chance that a camera pans.")
    dissolve_probability: float = Field(
        0.1, ge=0, le=1, description="Chance of a dissolve into a shot (doubled between scenes)."
    )
    fade_probability: float = Field(
        0.1, ge=0, le=1, description="Chance of a fade through black between two scenes."
    )
    prop_probability: float = Field(
        0.75, ge=0, le=1, description="Chance that a figure has a prop."
    )
    name_extras_probability: float = Field(
        0.5, ge=0, le=1, description="Chance that a prompt names a figure's hat or prop."
    )

    @model_validator(mode="after")
    def _ranges_are_ordered(self) -> Self:
        if self.max_shots < self.min_shots:
            raise ValueError(f"max_shots {self.max_shots} is below min_shots {self.min_shots}")
        if self.max_shot_s < self.min_shot_s:
            raise ValueError(f"max_shot_s {self.max_shot_s} is below min_shot_s {self.min_shot_s}")
        if 2 * self.dissolve_probability + self.fade_probability > 1:
            raise ValueError("2 * dissolve_probability + fade_probability must not exceed 1")
        return self

    @property
    def seeds(self) -> range:
        """The seeds of all films of this batch."""
        return range(self.first_seed, self.first_seed + self.num_films)
