"""Loading a model: every part by its kind, and whether the parts fit together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from fw_model.backbones.base import Backbone
from fw_model.embedders.base import Embedder
from fw_model.errors import CheckpointError, ConfigError
from fw_model.loading.config import ModelConfig
from fw_model.loading.folders import (
    clip_folder_of,
    find_part,
    load_record,
    require_part,
    starts_new,
    text_encoder_source,
    vae_folder,
)
from fw_model.loading.kinds import BACKBONES, EMBEDDERS, TEXT_ENCODERS, VAES
from fw_model.loading.record import ModelRecord
from fw_model.registry import resolve
from fw_model.text_encoders.base import TextEncoder
from fw_model.vaes.base import Vae


@dataclass(frozen=True)
class FilmModel:
    """Everything that generation needs, loaded."""

    backbone: Backbone
    vae: Vae
    embedder: Embedder
    text_encoder: TextEncoder
    record: ModelRecord
    config: ModelConfig
    scheduler_folder: Path | None


def load_model(config: ModelConfig) -> FilmModel:
    """Load every part of the model; CheckpointError if one is missing or does not fit."""
    record = load_record(config)
    text_encoder = load_text_encoder(config)
    backbone = load_backbone(config)
    vae = load_vae(config)
    if text_encoder.width != backbone.text_width:
        raise CheckpointError(
            f"The text encoder has width {text_encoder.width} but the transformer reads "
            f"{backbone.text_width}; use the text encoder that it was trained with."
        )
    if vae.latent_channels != backbone.latent_channels:
        raise CheckpointError(
            f"The VAE has {vae.latent_channels} latent channels but the transformer reads "
            f"{backbone.latent_channels}; use the VAE that it was trained with."
        )
    multiple = vae.spatial_factor * backbone.spatial_multiple
    if record.width % multiple or record.height % multiple:
        raise ConfigError(
            f"Frames of {record.width}x{record.height} px are not multiples of {multiple}; "
            "change model.width and model.height."
        )
    return FilmModel(
        backbone=backbone,
        vae=vae,
        embedder=load_embedder(config),
        text_encoder=text_encoder,
        record=record,
        config=config,
        scheduler_folder=find_part(config, "scheduler"),
    )


def load_backbone(config: ModelConfig) -> Backbone:
    """Load the transformer, ready to predict."""
    kind = resolve(config.backbone.kind, BACKBONES, "backbone")
    cache = load_record(config).cache
    if starts_new(config):
        backbone = kind.from_scratch(config.backbone.scratch, cache, config.backbone.scratch_seed)
        backbone = backbone.to(config.torch_dtype())
    else:
        folder = require_part(config, "transformer").parent
        backbone = kind.load(folder, cache, config.torch_dtype())
    loaded: Backbone = backbone.to(config.torch_device()).eval()
    return loaded


def load_vae(config: ModelConfig) -> Vae:
    """Load the video VAE in float32: it is small compared with the transformer."""
    folder = vae_folder(config) or require_part(config, "vae")
    kind = resolve(config.vae.kind, VAES, "vae")
    vae: Vae = kind.load(folder, device=config.torch_device(), dtype=torch.float32)
    return vae


def load_embedder(config: ModelConfig) -> Embedder:
    """Load CLIP: the model's own or, without one, the packaged one."""
    kind = resolve(config.embedder.kind, EMBEDDERS, "embedder")
    embedder: Embedder = kind.load(clip_folder_of(config), device=config.torch_device())
    return embedder


def load_text_encoder(config: ModelConfig) -> TextEncoder:
    """Load the text encoder: by default UMT5 if the model has it, else CLIP's text tower."""
    kind, folder = text_encoder_source(config)
    folder = folder or require_part(config, "text_encoder").parent
    options = {} if kind == "clip" else {"dtype": config.torch_dtype()}
    load = resolve(kind, TEXT_ENCODERS, "text encoder").load
    encoder: TextEncoder = load(folder, device=config.torch_device(), **options)
    return encoder
