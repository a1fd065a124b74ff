"""Settings of the judges that need something from outside: weights, or an endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from fw_model.config import StrictModel


class AestheticConfig(StrictModel):
    """LAION's predictor of how much people like a picture. Without paths it is not measured."""

    head: str | None = Field(
        default=None,
        description="File of the linear head (v1) or the MLP (v2), .pth or .safetensors.",
    )
    clip: str | None = Field(
        default=None,
        description="Folder, in open_clip's layout, of the CLIP that the head was trained on.",
    )
    frames_per_shot: int = Field(
        default=8, ge=1, le=1000, description="Frames of each shot that are judged, evenly chosen."
    )

    @model_validator(mode="after")
    def _head_and_clip_belong_together(self) -> Self:
        if (self.head is None) != (self.clip is None):
            raise ValueError("head and clip are given together, or neither")
        return self

    def with_absolute_paths(self) -> Self:
        """Return the same with absolute paths: actors run in other folders."""
        return self.model_copy(
            update={"head": absolute_path(self.head), "clip": absolute_path(self.clip)}
        )


class InceptionConfig(StrictModel):
    """The Inception Score. Without weights it is not measured."""

    weights: str | None = Field(
        default=None, description="torchvision's inception_v3 weights, .pth or .safetensors."
    )
    frames_per_shot: int = Field(
        default=8, ge=1, le=1000, description="Frames of each shot that are judged, evenly chosen."
    )

    def with_absolute_paths(self) -> Self:
        """Return the same with an absolute path: actors run in other folders."""
        return self.model_copy(update={"weights": absolute_path(self.weights)})


class CharactersConfig(StrictModel):
    """Who finds the characters of films. What concerns requests is for `openai`."""

    kind: str = Field(
        default="none",
        description="none (toy films: the toy judge; others: nobody), openai, or module:Name of a "
        "finder class of your own.",
    )
    base_url: str = Field(
        default="http://127.0.0.1:8000/v1", description="OpenAI-compatible multimodal endpoint."
    )
    model: str = Field(default="default", description="Model name sent to the endpoint.")
    api_key_env: str = Field(
        default="OPENAI_API_KEY", description="Environment variable that holds the key."
    )
    requests_per_minute: float | None = Field(
        default=None, gt=0, description="Upper bound on the rate of requests of the whole run."
    )
    timeout_s: float = Field(default=120.0, gt=0, description="Longest wait for one answer, s.")
    max_attempts: int = Field(
        default=6, ge=1, le=100, description="Attempts per request, first included."
    )
    max_retry_wait_s: float = Field(
        default=60.0, ge=0, description="Longest pause before another attempt, s."
    )
    max_output_tokens: int = Field(
        default=1024, ge=64, description="Upper bound on an answer's length."
    )
    json_schema: bool = Field(
        default=True, description="Ask for response_format json_schema; off: the prompt alone asks."
    )
    budget_usd: float | None = Field(
        default=None,
        ge=0,
        description="Most that a run may spend, in equal shares for its actors; an actor that has "
        "spent its share ends the run, and one that finds no room to start leaves its share. Null: "
        "no limit.",
    )
    usd_per_million_input_tokens: float = Field(
        default=0.0, ge=0, description="Price, for the budget."
    )
    usd_per_million_output_tokens: float = Field(
        default=0.0, ge=0, description="Price, for the budget."
    )
    tokens_per_image: int = Field(
        default=2048, ge=1, description="Input tokens of one frame at most, for the budget."
    )


def absolute_path(path: str | None) -> str | None:
    """Return the absolute path of `path`; None and URIs as they are."""
    return path if path is None or "://" in path else str(Path(path).expanduser().absolute())
