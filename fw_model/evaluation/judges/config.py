"""Settings of the judges that need weights or an endpoint from the user."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from fw_model.config import StrictModel
from fw_model.endpoint import EndpointConfig


class AestheticConfig(StrictModel):
    """LAION's predictor of how much people like a picture. Without paths it is not measured."""

    head: str | None = Field(
        None, description="File of the linear head (v1) or the MLP (v2), .pth or .safetensors."
    )
    clip: str | None = Field(
        None, description="Folder, in open_clip's layout, of the CLIP that the head was trained on."
    )
    frames_per_shot: int = Field(
        8, ge=1, le=1000, description="Evenly spaced frames of each shot to judge."
    )

    @model_validator(mode="after")
    def _head_and_clip_belong_together(self) -> Self:
        if (self.head is None) != (self.clip is None):
            raise ValueError("set head and clip together, or neither")
        return self

    def with_absolute_paths(self) -> Self:
        """Return a copy with absolute paths: actors run in other folders."""
        return self.model_copy(
            update={"head": absolute_path(self.head), "clip": absolute_path(self.clip)}
        )


class InceptionConfig(StrictModel):
    """The Inception Score. Without weights it is not measured."""

    weights: str | None = Field(
        None, description="torchvision's inception_v3 weights, .pth or .safetensors."
    )
    frames_per_shot: int = Field(
        8, ge=1, le=1000, description="Evenly spaced frames of each shot to judge."
    )

    def with_absolute_paths(self) -> Self:
        """Return a copy with an absolute path: actors run in other folders."""
        return self.model_copy(update={"weights": absolute_path(self.weights)})


class CharactersConfig(EndpointConfig):
    """What finds the characters in films. All settings but `kind` are for openai."""

    kind: str = Field(
        "none",
        description="none (toy films: the toy judge; others: nothing), openai, faces (offline, "
        "shots with one character; extra faces), or module:Name for your own finder.",
    )
    budget_usd: float | None = Field(
        None,
        ge=0,
        description="Most that a run may spend, USD, in equal shares for its actors. An actor that "
        "has spent its share ends the run. The share of an actor that cannot start stays unspent. "
        "Null: no limit.",
    )
    max_output_tokens: int = Field(1024, ge=64, description="Most tokens in one response.")
    tokens_per_image: int = Field(
        2048, ge=1, description="Most input tokens that the endpoint counts for one frame."
    )


def absolute_path(path: str | None) -> str | None:
    """Return `path` as an absolute path; None and URIs unchanged."""
    return path if path is None or "://" in path else str(Path(path).expanduser().absolute())
