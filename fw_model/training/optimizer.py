"""The optimizers: AdamW for all weights, or Muon for the matrices of the blocks.

Knows nothing about schedules: each step sets AdamW's learning rate, and Muon's is a multiple of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fw_model.optim.muon import Muon
from fw_model.training.config import OptimizerConfig
from fw_model.training.step import TrainingModel


def build_optimizers(model: TrainingModel, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Return optimizers that together hold every trained parameter of `model`."""
    matrices = _block_matrices(model) if config.kind == "muon" else []
    chosen = {id(matrix) for matrix in matrices}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    adamw = torch.optim.AdamW(
        others,
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
    )
    if not matrices:
        return [adamw]
    return [adamw, Muon(matrices, lr=config.learning_rate * config.muon_rate)]


def set_learning_rate(
    optimizers: list[torch.optim.Optimizer], rate: float, muon_rate: float
) -> None:
    """Give AdamW `rate` and Muon `muon_rate` times as much."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate * muon_rate if isinstance(optimizer, Muon) else rate


def _block_matrices(model: TrainingModel) -> list[Tensor]:
    """Return the trained linear weights inside the blocks, for Muon.

    Embeddings, the output projection, norms and biases do not map hidden states to hidden states.
    """
    return [
        layer.weight
        for layer in model.backbone.transformer.blocks.modules()
        if isinstance(layer, nn.Linear) and layer.weight.requires_grad
    ]
