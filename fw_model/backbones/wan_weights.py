"""The stock Wan transformer with new weights or from a folder. Knows nothing about caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import WanTransformer3DModel
from safetensors import SafetensorError
from torch import nn

from fw_model.errors import CheckpointError, ConfigError
from fw_model.files.weights import check_complete

GATE_AT_START = 0.5


def new_transformer(architecture: dict[str, Any], seed: int) -> WanTransformer3DModel:
    """Return a transformer with Wan's own initialisation, the same for the same seed.

    Raises ConfigError if diffusers' class refuses `architecture`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            transformer = WanTransformer3DModel(**architecture)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"model.backbone.scratch is not a Wan transformer: {error}"
            ) from error
        _initialise(transformer)
    return transformer


def saved_transformer(folder: Path, dtype: torch.dtype) -> WanTransformer3DModel:
    """Load `folder`/transformer; CheckpointError if it is missing, damaged or one of a pair."""
    where = folder / "transformer"
    if not (where / "config.json").is_file():
        raise CheckpointError(
            f"{folder} has no transformer/config.json; give a diffusers-layout Wan folder."
        )
    if (folder / "transformer_2").is_dir():
        raise CheckpointError(
            f"{folder} has two transformers (transformer_2/: Wan 2.2 A14B's experts for high and "
            "low noise), but only models with one are supported; use Wan 2.1 text-to-video or "
            "Wan 2.2 TI2V-5B."
        )
    try:
        transformer, loaded = WanTransformer3DModel.from_pretrained(
            str(where), torch_dtype=dtype, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"Cannot load the transformer in {where}: {error}") from error
    check_complete(where, loaded["missing_keys"])
    return transformer


def _initialise(transformer: WanTransformer3DModel) -> None:
    """Initialise as Wan does: Xavier, small embedders, an output that starts at zero."""
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear):
            if "text_embedder" in name or "time_embedder" in name:
                nn.init.normal_(module.weight, std=0.02)
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.xavier_uniform_(transformer.patch_embedding.weight.flatten(1))
    nn.init.zeros_(transformer.proj_out.weight)
    for block in transformer.blocks:  # a small model would be slow to learn to open the gates
        block.scale_shift_table.data[:, [2, 5]] = GATE_AT_START
