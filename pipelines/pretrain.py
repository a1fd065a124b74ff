"""Pretraining of the packaged model's small models, each in this process.

Each call continues an interrupted one and returns what it measured on held-out films.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch

from fw_model.errors import ConfigError
from fw_model.pretraining.clip import pretrain_embedder
from fw_model.pretraining.text_encoder import pretrain_text_encoder
from fw_model.pretraining.toy_judge import pretrain_toy_judge
from fw_model.pretraining.vae import pretrain_vae
from pipelines.pretraining.captioned_shots import open_shots
from pipelines.pretraining.config import PretrainConfig
from pipelines.pretraining.cut_detector import pretrain_detector
from pipelines.pretraining.prompts import QUESTIONS, prompt_sampler
from pipelines.pretraining.toy_labels import open_labelled_shots
from pipelines.toyfilms.config import ToyFilmsConfig


def run_pretrain_vae(config: PretrainConfig, films: Path, output: Path) -> dict[str, float]:
    """Train the small VAE on `films` into `output/vae`."""
    _limit_threads(config)
    training, held_out = open_shots(config, films, output)
    return pretrain_vae(config.vae, training, held_out, output)


def run_pretrain_embedder(config: PretrainConfig, films: Path, output: Path) -> dict[str, float]:
    """Train the small CLIP on `films` and their captions into `output/clip`."""
    if config.name_hues and config.embedder.hue_augmentation:
        raise ConfigError(
            "pretrain.name_hues with pretrain.embedder.hue_augmentation "
            f"{config.embedder.hue_augmentation:g} would call permuted colours by their old names; "
            "set the latter to 0."
        )
    _limit_threads(config)
    training, held_out = open_shots(config, films, output)
    return pretrain_embedder(config.embedder, training, held_out, output)


def run_pretrain_text_encoder(
    config: PretrainConfig, films: ToyFilmsConfig, output: Path
) -> dict[str, float]:
    """Train the small UMT5 on prompts of sampled films into `output/text_encoder` and `tokenizer`.

    Only prompts are made; no film is rendered.
    """
    _limit_threads(config)
    return pretrain_text_encoder(config.text_encoder, QUESTIONS, prompt_sampler(films), output)


def run_pretrain_toy_judge(config: PretrainConfig, films: Path, output: Path) -> dict[str, float]:
    """Train the toy judge on toy films and their truth into `output/toy_judge`."""
    _limit_threads(config)
    training, held_out = open_labelled_shots(config, films, output)
    return pretrain_toy_judge(config.toy_judge, training, held_out, output)


def run_pretrain_detector(config: PretrainConfig, footage: Path, output: Path) -> dict[str, float]:
    """Train the learned shot detector on films made of `footage`, with one process per thread."""
    num_workers = config.num_threads or os.cpu_count() or 1
    return pretrain_detector(config.detector, footage, output, num_workers=num_workers)


def _limit_threads(config: PretrainConfig) -> None:
    if config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
