"""The loop of every small training: resume, step, average, log, save, export.

Knows nothing about the model: the caller passes the module, its optimizers and one step.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn
from torch.optim import Optimizer

from fw_model.config import StrictModel
from fw_model.errors import CheckpointError
from fw_model.files.atomic import atomic_file
from fw_model.training.ema import Ema
from fw_model.training.lr_schedule import warm_cosine
from fw_model.training.metrics import MetricsFile

logger = logging.getLogger(__name__)

Parts = Mapping[str, nn.Module | Optimizer]
METRICS_FILE = "metrics.jsonl"
STATE_FILE = "state.pt"


WarmupSteps = Annotated[int, Field(ge=0, description="Steps of linear warm-up.")]
EmaDecay = Annotated[float, Field(ge=0, lt=1, description="Decay of the averaged weights.")]
LogEvery = Annotated[int, Field(ge=1, description="Steps between lines of metrics.")]
SaveEvery = Annotated[int, Field(ge=1, description="Steps between saves of the state.")]


class LoopConfig(StrictModel):
    """The settings of the loop; each kind of training may have its own defaults."""

    warmup_steps: WarmupSteps = 30
    final_fraction: float = Field(
        0.02, ge=0, le=1, description="Last learning rate as a share of the peak."
    )
    ema_decay: EmaDecay = 0.99
    seed: int = Field(0, ge=0, description="Seed of weights and samples.")
    log_every: LogEvery = 20
    save_every: SaveEvery = 200


def pretrain(
    config: LoopConfig,
    parts: Parts,
    output: Path,
    *,
    num_steps: int,
    data: str,
    step: Callable[[int, float], Mapping[str, Tensor]],
    export: Callable[[], dict[str, float]],
    export_at_saves: bool = False,
) -> dict[str, float]:
    """Train up to `num_steps`, resuming the run in `output`; return what the last export measured.

    `parts` are the one trained module and its optimizers, under their names in the state file.
    `data` identifies the training data: CheckpointError if the run in `output` has other data or
    settings. `step(number, fraction)` updates the weights at `fraction` of the peak learning rates
    and returns its losses. `export` writes the model and measures it, while the module holds the
    averaged weights.
    """
    (module,) = (part for part in parts.values() if isinstance(part, nn.Module))
    first_optimizer = next(part for part in parts.values() if isinstance(part, Optimizer))
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    average = Ema(trained, decay=config.ema_decay, device=next(iter(trained.values())).device)
    average.update(trained.items(), step=0)
    state = _StateFile(output / STATE_FILE, {**parts, "ema": average}, config, data)
    first = state.load()
    metrics = MetricsFile(output / METRICS_FILE, start=first + 1)

    def save_and_export(done: int) -> dict[str, float]:
        state.save(done)
        with average.applied_to(module):
            measured = export()
        log_line(metrics, done, measured)
        return measured

    for done in range(first + 1, num_steps + 1):
        started = time.perf_counter()
        fraction = warm_cosine(
            done - 1,
            num_steps,
            warmup_steps=config.warmup_steps,
            final_fraction=config.final_fraction,
        )
        losses = step(done - 1, fraction)
        average.update(trained.items(), step=done)
        if done % config.log_every == 0:
            row = {name: float(value.detach()) for name, value in losses.items()}
            row["lr"] = first_optimizer.param_groups[0]["lr"]
            row["step_s"] = time.perf_counter() - started
            log_line(metrics, done, row)
        if done % config.save_every == 0 and done < num_steps:
            if export_at_saves:
                save_and_export(done)
            else:
                state.save(done)
    return save_and_export(num_steps)


def log_line(metrics: MetricsFile, step: int, row: Mapping[str, float]) -> None:
    """Write and log the numbers of `row`, rounded, as measured after `step` steps."""
    rounded = {key: float(f"{value:.6g}") for key, value in row.items()}
    metrics.append([{"step": step, **rounded}])
    logger.info("step %d: %s", step, rounded)


def move(
    optimizers: Iterable[Optimizer],
    loss: Tensor,
    fraction: float,
    *,
    max_grad_norm: float | None = None,
) -> None:
    """Step each optimizer once on `loss`, at `fraction` of its initial learning rate."""
    groups = [(group, o.defaults["lr"]) for o in optimizers for group in o.param_groups]
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    if max_grad_norm is not None:
        weights = [weight for group, _ in groups for weight in group["params"]]
        torch.nn.utils.clip_grad_norm_(weights, max_grad_norm)
    for group, peak in groups:
        group["lr"] = peak * fraction
    for optimizer in optimizers:
        optimizer.step()


class _StateFile:
    """The state of a run in one file: its parts, its step, its settings and its data."""

    def __init__(
        self,
        path: Path,
        parts: Mapping[str, nn.Module | Optimizer | Ema],
        config: LoopConfig,
        data: str,
    ) -> None:
        self._path, self._parts, self._config, self._data = path, parts, config, data

    def load(self) -> int:
        """Restore all parts and return the number of steps done; 0 if there is no file."""
        if not self._path.is_file():
            return 0
        saved = torch.load(self._path, map_location="cpu", weights_only=True)
        if not self._is_same_run(saved["config"]):
            raise CheckpointError(
                f"{self._path} belongs to a run with other settings or other data; give another "
                "output folder."
            )
        for name, part in self._parts.items():
            part.load_state_dict(saved[name])
        logger.info("resumed %s at step %d", self._path, saved["step"])
        return int(saved["step"])

    def save(self, step: int) -> None:
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        with atomic_file(self._path) as file:
            identity = f"{self._config.model_dump_json()}\n{self._data}"
            torch.save({"config": identity, "step": step, **parts}, file)

    def _is_same_run(self, identity: str) -> bool:
        settings, _, data = identity.partition("\n")
        try:  # parsed, so that the order of settings does not count, nor new ones at their default
            same = type(self._config).model_validate_json(settings) == self._config
        except ValidationError:
            return False
        return same and data == self._data
