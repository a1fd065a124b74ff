"""Pretraining of the packaged model's small parts: each from films, in this process."""

from __future__ import annotations

from pathlib import Path

from fw_model.errors import ConfigError
from fw_model.pretraining.clip import pretrain_embedder
from fw_model.pretraining.vae import pretrain_vae
from pipelines.pretraining.config import PretrainConfig
from pipelines.pretraining.films import open_film_libraries


def run_pretrain_vae(config: PretrainConfig, films: Path, output: Path) -> dict[str, float]:
    """Train the small VAE on `films`; `output/vae` holds it. Goes on where it was stopped."""
    library, validation = open_film_libraries(config, films, output)
    _use_threads(config)
    return pretrain_vae(config.vae, library, validation, output)


def run_pretrain_embedder(config: PretrainConfig, films: Path, output: Path) -> dict[str, float]:
    """Train the small CLIP on `films`; `output/clip` holds it. Goes on where it was stopped."""
    if config.name_hues and config.embedder.hue_augmentation:
        raise ConfigError(
            "pretrain.name_hues with pretrain.embedder.hue_augmentation "
            f"{config.embedder.hue_augmentation:g} would call permuted colours by their old names; "
            "set the latter to 0."
        )
    library, validation = open_film_libraries(config, films, output)
    _use_threads(config)
    return pretrain_embedder(config.embedder, library, validation, output)


def _use_threads(config: PretrainConfig) -> None:
    import torch

    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
