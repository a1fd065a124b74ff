"""What an engine does for the training loop, and an engine in plain torch.

DeepSpeed's engine is in `pipelines.training`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from fw_model.errors import CheckpointError
from fw_model.training.config import TrainingConfig
from fw_model.training.data.batch import Batch
from fw_model.training.distributed import mean_over_ranks, rank_and_world_size
from fw_model.training.optimizer import build_optimizers, set_learning_rate
from fw_model.training.step import StepOutput, TrainingModel

_MAX_COMPILED = 64  # programs: one per number of keyframes and tiers, with and without history
STATE_FILE = "plain_engine.pt"


class TrainEngine(Protocol):
    """Forward, backward and step of one rank. Every rank calls the methods marked (all)."""

    name: str
    rank: int
    world_size: int
    device: torch.device

    def forward(self, batch: Batch) -> StepOutput:
        """Run the model on a micro-batch (all)."""

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of `loss`, already scaled to its share of the step (all)."""

    def step(self, learning_rate: float) -> float:
        """Average gradients over ranks, clip, update; return their norm before clipping (all)."""

    def parameter_names(self) -> list[str]:
        """Return the names of all trained parameters, in the same order on every rank."""

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield every trained parameter, whole (all)."""

    def save(self, folder: Path) -> None:
        """Write weights and optimizer (all; ranks share the folder, or theirs are merged)."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote (all)."""


class PlainEngine:
    """Plain torch with all weights on every rank; several ranks average their gradients."""

    name = "plain"

    def __init__(self, model: TrainingModel, config: TrainingConfig, device: torch.device) -> None:
        self.device = device
        self.rank, self.world_size = rank_and_world_size()
        self.module = model.to(device).train()
        self._max_grad_norm = config.optimizer.max_grad_norm
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self._muon_rate = config.optimizer.muon_rate
        self._optimizers = build_optimizers(model, config.optimizer)
        if config.compile:
            _compile_blocks(model)

    def forward(self, batch: Batch) -> StepOutput:
        output: StepOutput = self.module(batch)
        return output

    def backward(self, loss: Tensor) -> None:
        torch.autograd.backward(loss)

    def step(self, learning_rate: float) -> float:
        if self.world_size > 1:
            self._average_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters.values(), self._max_grad_norm)
        set_learning_rate(self._optimizers, learning_rate, self._muon_rate)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(norm)

    def _average_gradients(self) -> None:
        """Average all gradients in one exchange, because many small exchanges are slow."""
        gradients = [p.grad for p in self._parameters.values()]
        assert all(g is not None for g in gradients), "every parameter has a gradient at every step"
        flat = mean_over_ranks(torch.cat([g.flatten() for g in gradients if g is not None]))
        parts = flat.split([p.numel() for p in self._parameters.values()])
        for parameter, part in zip(self._parameters.values(), parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def parameter_names(self) -> list[str]:
        return list(self._parameters)

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        yield from self._parameters.items()

    def save(self, folder: Path) -> None:
        if self.rank != 0:  # all ranks have the same
            return
        weights = {name: p.detach() for name, p in self._parameters.items()}
        state = {"weights": weights, "optimizers": [o.state_dict() for o in self._optimizers]}
        torch.save(state, folder / STATE_FILE)

    def load(self, folder: Path) -> None:
        try:
            state = torch.load(folder / STATE_FILE, map_location=self.device, weights_only=True)
        except (OSError, RuntimeError, EOFError) as error:
            raise CheckpointError(f"Cannot read {folder / STATE_FILE}: {error}") from error
        same_names = state["weights"].keys() == self._parameters.keys()
        if not same_names or len(state.get("optimizers", ())) != len(self._optimizers):
            raise CheckpointError(
                f"{folder} was saved with other trained parameters or another optimizer; give "
                "another output folder."
            )
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(state["weights"][name])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def _compile_blocks(model: TrainingModel) -> None:
    """Compile the transformer's blocks, once per kind of context instead of once per length."""
    torch._dynamo.config.recompile_limit = _MAX_COMPILED
    for block in model.backbone.transformer.blocks:
        block.compile(dynamic=True)
