"""Which model runs, where its parts are, and on what device."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field, model_validator

from fw_model.cache.config import CacheConfig
from fw_model.config import StrictModel
from fw_model.errors import ConfigError


class PartConfig(StrictModel):
    """One exchangeable part of a model."""

    kind: str = Field(description="A built-in kind, or module:Name for your own code.")
    path: str | None = Field(None, description="Its folder; null: the one in the model folder.")


class BackboneConfig(StrictModel):
    """The transformer, or the shape of a new one."""

    kind: str = Field("wan", description="A built-in kind, or module:Name for your own code.")
    scratch: dict[str, Any] | None = Field(
        None,
        description="Start from random weights of this shape (arguments of the diffusers class) "
        "instead of saved ones.",
    )
    scratch_seed: int = Field(0, ge=0, description="Seed of the random weights.")

    @model_validator(mode="before")
    @classmethod
    def _refuse_path(cls, settings: object) -> object:
        if isinstance(settings, dict) and "path" in settings:  # a setting of version 0.1
            raise ValueError("backbone.path never had an effect; remove it and set model.path")
        return settings


class ModelConfig(StrictModel):
    """Which model runs, and how."""

    path: str | None = Field(
        None,
        description="tiny, a model folder in diffusers' layout, or a hub id. Null: the model that "
        "the checkpoint was trained from, or tiny.",
    )
    checkpoint: str | None = Field(
        None, description="Folder exported by training; its parts replace those of path."
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Type of the transformer and the text encoder."
    )
    cache: CacheConfig | None = Field(
        None, description="Overrides the cache shape recorded with the model."
    )
    width: int | None = Field(
        None, ge=8, description="Frame width, px; null: as recorded with the model."
    )
    height: int | None = Field(
        None, ge=8, description="Frame height, px; null: as recorded with the model."
    )
    fps: float | None = Field(None, gt=0, description="Frames/s; null: as recorded with the model.")
    backbone: BackboneConfig = Field(BackboneConfig(), description="The transformer.")
    vae: PartConfig = Field(PartConfig(kind="wan"), description="The video VAE.")
    embedder: PartConfig = Field(
        PartConfig(kind="open_clip"), description="CLIP, for retrieval and curation."
    )
    text_encoder: PartConfig = Field(
        PartConfig(kind="auto"), description="auto: umt5 if the model has one, else clip."
    )

    def torch_device(self) -> torch.device:
        """Return the device named by `device`; auto prefers a GPU."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise ConfigError(
                f"model.device {self.device!r} is not a torch device; use auto, cpu or cuda."
            ) from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(f"model.device is {self.device!r} but torch finds no GPU; use cpu.")
        return device

    def torch_dtype(self) -> torch.dtype:
        """Return the torch type named by `dtype`."""
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32
