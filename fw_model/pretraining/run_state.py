"""What the small trainings share: resumable state, averaged weights, a metrics file.

Knows nothing of what is trained.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from fw_model.errors import CheckpointError

logger = logging.getLogger(__name__)


class Stateful(Protocol):
    """Anything with a state dict: a module, an optimizer, a moving average."""

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on."""
        ...

    def load_state_dict(self, state_dict: Any) -> Any:
        """Go on from `state_dict`."""
        ...


class MovingAverage:
    """Exponential moving average of a module's parameters, warmed up over the first steps."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._weights = {n: p.detach().clone() for n, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the parameters as they are after a step."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for name, parameter in module.named_parameters():
            self._weights[name].lerp_(parameter, 1 - decay)

    @contextlib.contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """Give `module` the averaged parameters for a while, then its own back."""
        own = {n: p.detach().clone() for n, p in module.named_parameters()}
        self._copy(self._weights, module)
        try:
            yield
        finally:
            self._copy(own, module)

    @staticmethod
    @torch.no_grad()
    def _copy(weights: Mapping[str, torch.Tensor], module: nn.Module) -> None:
        for name, parameter in module.named_parameters():
            parameter.copy_(weights[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights and how many steps they hold."""
        return {"steps": self._steps, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self._steps = state_dict["steps"]
        self._weights = {n: w.to(self._weights[n]) for n, w in state_dict["weights"].items()}


def move(optimizers: Iterable[tuple[torch.optim.Optimizer, float]], factor: float) -> None:
    """Take a step with each optimizer at `factor` of its own peak learning rate."""
    for optimizer, peak in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = peak * factor
        optimizer.step()


class RunState:
    """The state of a run in one file, replaced atomically."""

    def __init__(self, path: Path, parts: Mapping[str, Stateful]) -> None:
        self._path = path
        self._parts = parts
        self._config = ""

    def load(self, config: str, data: str) -> int:
        """Restore all parts and return the step to go on with; 0 if there is no state.

        `config` and `data` say what the run is and what it learns from; CheckpointError if the
        state is of another run.
        """
        self._config = config = f"{config}\n{data}"
        if not self._path.is_file():
            return 0
        saved = torch.load(self._path, map_location="cpu", weights_only=True)
        if saved["config"] != config:
            raise CheckpointError(
                f"{self._path} belongs to a run with other settings or other data; use another "
                "output folder."
            )
        for name, part in self._parts.items():
            part.load_state_dict(saved[name])
        logger.info("resumed %s at step %d", self._path, saved["step"])
        return int(saved["step"])

    def save(self, step: int) -> None:
        """Write the state after `step` steps."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        parts = {name: part.state_dict() for name, part in self._parts.items()}
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        torch.save({"config": self._config, "step": step, **parts}, temporary)
        os.replace(temporary, self._path)


class MetricsFile:
    """One JSON object a line, each with its step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def truncate(self, step: int) -> None:
        """Forget lines after `step`: a resumed run writes them again."""
        if not self._path.is_file():
            return
        lines = self._path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if json.loads(line)["step"] <= step]
        self._path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def append(self, step: int, row: Mapping[str, float]) -> None:
        """Add a line."""
        rounded = {key: float(f"{value:.6g}") for key, value in row.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **rounded}) + "\n")
        logger.info("step %d: %s", step, rounded)
