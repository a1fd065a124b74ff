"""The loop of every small training: resume, step, average, log, save, export.

Knows nothing of what is trained: the caller gives a module, its optimizers and one step of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fw_model.errors import CheckpointError
from fw_model.files.atomic import atomic_file
from fw_model.training.ema import Ema
from fw_model.training.lr_schedule import warm_cosine
from fw_model.training.metrics import MetricsFile

logger = logging.getLogger(__name__)

Parts = Mapping[str, nn.Module | Optimizer]
METRICS_FILE = "metrics.jsonl"
STATE_FILE = "state.pt"


class LoopConfig(Protocol):
    """The settings that the loop reads of a training's own."""

    @property
    def num_steps(self) -> int:
        """Optimizer steps."""

    @property
    def warmup_steps(self) -> int:
        """Steps of linear warm-up."""

    @property
    def final_fraction(self) -> float:
        """Last learning rate / peak."""

    @property
    def ema_decay(self) -> float:
        """Decay of the averaged weights."""

    @property
    def log_every(self) -> int:
        """Steps between lines of metrics."""

    @property
    def save_every(self) -> int:
        """Steps between saves of the state."""

    def model_dump_json(self) -> str:
        """Return all settings as JSON."""


def pretrain(
    config: LoopConfig,
    parts: Parts,
    output: Path,
    *,
    data: str,
    step: Callable[[int, float], Mapping[str, Tensor]],
    export: Callable[[], dict[str, float]],
    export_at_saves: bool = False,
) -> dict[str, float]:
    """Train to the last step from where `output` stands; return what the last `export` measured.

    `parts` are the one trained module and its optimizers, under their names in the state file.
    `data` identifies what is learned from: CheckpointError if `output` holds a run of other data or
    settings. `step(number, fraction)` moves the weights at `fraction` of the peak learning rates
    and returns its losses. `export` writes the model and measures it, while the module holds the
    averaged weights.
    """
    (module,) = (part for part in parts.values() if isinstance(part, nn.Module))
    first_optimizer = next(part for part in parts.values() if isinstance(part, Optimizer))
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    average = Ema(trained, decay=config.ema_decay, device=next(iter(trained.values())).device)
    average.update(trained.items(), step=0)
    identity = f"{config.model_dump_json()}\n{data}"
    state = _StateFile(output / STATE_FILE, {**parts, "ema": average}, identity)
    first = state.load()
    metrics = MetricsFile(output / METRICS_FILE, start=first + 1)

    def save_and_export(done: int) -> dict[str, float]:
        state.save(done)
        with average.applied_to(module):
            measured = export()
        log_line(metrics, done, measured)
        return measured

    for done in range(first + 1, config.num_steps + 1):
        started = time.perf_counter()
        fraction = warm_cosine(
            done - 1,
            config.num_steps,
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
        if done % config.save_every == 0 and done < config.num_steps:
            if export_at_saves:
                save_and_export(done)
            else:
                state.save(done)
    return save_and_export(config.num_steps)


def log_line(metrics: MetricsFile, step: int, row: Mapping[str, float]) -> None:
    """Write and log the numbers of `row`, rounded, as they are after `step` steps."""
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
    """Lower `loss` by one step of each optimizer at `fraction` of the rate it was made with."""
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
    """The state of a run in one file: its parts, its step, and what it is a run of."""

    def __init__(
        self, path: Path, parts: Mapping[str, nn.Module | Optimizer | Ema], identity: str
    ) -> None:
        self._path, self._parts, self._identity = path, parts, identity

    def load(self) -> int:
        """Restore all parts and return the number of steps done; 0 if there is no file."""
        if not self._path.is_file():
            return 0
        saved = torch.load(self._path, map_location="cpu", weights_only=True)
        if saved["config"] != self._identity:
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
            torch.save({"config": self._identity, "step": step, **parts}, file)
