"""What a run tells about itself: metrics.jsonl, a line a step, and log lines for people."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fw_model.cache.context import MODES
from fw_model.training.engine import TrainEngine
from fw_model.training.step import StepOutput

_log = logging.getLogger(__name__)
SIGMA_BINS = (0.25, 0.5, 0.75)  # edges of the four noise levels that are told apart


class StepMeter:
    """Adds up one step's losses and times."""

    def __init__(self, device: torch.device, samples_per_step: int) -> None:
        self._device = device
        self._samples = samples_per_step
        self.gradient_norm = 0.0
        self._waited_s = 0.0
        self._waiting_since = self._step_began = time.perf_counter()
        self._reset()

    def _reset(self) -> None:
        self._loss_and_leak = torch.zeros(3, device=self._device)  # loss, leak sum, leak count
        self._bins = torch.zeros(len(SIGMA_BINS) + 1, 2, device=self._device)  # sum, count
        self._by_mode = torch.zeros(len(MODES), 2, device=self._device)  # sum, count

    def wait_begins(self) -> None:
        """The loop starts to wait for data."""
        self._waiting_since = self._step_began = time.perf_counter()

    def wait_ends(self) -> None:
        """Data came."""
        self._waited_s = time.perf_counter() - self._waiting_since

    def add(self, mode: str, output: StepOutput, share: float) -> None:
        """Count a micro-batch that makes up `share` of the step's loss."""
        losses = output.sample_loss.float()
        seen = ~output.copy_leak.isnan()
        self._loss_and_leak += torch.stack(
            [losses.mean() * share, output.copy_leak.nan_to_num(), seen.float()]
        )
        edges = torch.tensor(SIGMA_BINS, device=output.sigma.device)
        ones = torch.ones_like(losses)
        self._bins.index_add_(
            0, torch.bucketize(output.sigma, edges), torch.stack([losses, ones], dim=1)
        )
        self._by_mode[MODES.index(mode)] += torch.stack([losses.sum(), ones.sum()])

    def finish(
        self, engine: TrainEngine, *, step: int, stage: str, learning_rate: float
    ) -> dict[str, Any]:
        """Return the step's metrics, averaged over ranks, and start the next step (all ranks)."""
        sums = torch.cat([self._loss_and_leak, self._by_mode.flatten(), self._bins.flatten()])
        values = engine.mean(sums).tolist()
        loss, leak, leak_count = values[:3]
        by_mode = dict(zip(MODES, _means(values[3 : 3 + 2 * len(MODES)]), strict=True))
        by_sigma = _means(values[3 + 2 * len(MODES) :])
        elapsed = time.perf_counter() - self._step_began
        line: dict[str, Any] = {
            "step": step,
            "stage": stage,
            "mode": "+".join(mode for mode, mean in by_mode.items() if mean is not None),
            "loss": loss,
            "loss_by_mode": {mode: mean for mode, mean in by_mode.items() if mean is not None},
            "loss_by_sigma": by_sigma,
            "copy_leak": leak / leak_count if leak_count else None,
            "lr": learning_rate,
            "grad_norm": self.gradient_norm,
            "step_s": round(elapsed, 4),
            "data_wait_s": round(self._waited_s, 4),
            "samples_per_s": round(self._samples / elapsed, 3),
        }
        self._reset()
        return line


def _means(pairs: list[float]) -> list[float | None]:
    """Return sum / count of each (sum, count) pair, None where nothing was counted."""
    return [
        total / count if count else None
        for total, count in zip(pairs[::2], pairs[1::2], strict=True)
    ]


class MetricsLog:
    """metrics.jsonl of a run. Lines from `start` on, left by a run that was cut, are dropped."""

    def __init__(self, path: Path | None, start: int) -> None:
        self._path = path
        self._lines: list[str] = []
        self._recent: list[Mapping[str, Any]] = []
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _truncate(path, start)

    def write(self, line: Mapping[str, Any], *, report: bool) -> None:
        """Add a step's line; with `report`, tell people about the steps since the last time."""
        if self._path is None:
            return
        self._lines.append(json.dumps(line))
        self._recent.append(line)
        if report:
            _log.info("%s", _summary(self._recent))
            self._recent.clear()
            self.flush()

    def flush(self) -> None:
        """Bring all lines to the file."""
        if self._path is not None and self._lines:
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n".join(self._lines) + "\n")
        self._lines.clear()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics file, oldest step first."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def _summary(lines: list[Mapping[str, Any]]) -> str:
    last = lines[-1]
    mean_loss = sum(line["loss"] for line in lines) / len(lines)
    seconds = sum(line["step_s"] for line in lines)
    waited = sum(line["data_wait_s"] for line in lines)
    samples = sum(line["samples_per_s"] * line["step_s"] for line in lines)
    by_mode: dict[str, list[float]] = {}
    for line in lines:
        for mode, loss in line["loss_by_mode"].items():
            by_mode.setdefault(mode, []).append(loss)
    modes = " ".join(f"{m}={sum(v) / len(v):.4f}" for m, v in sorted(by_mode.items()))
    return (
        f"step {last['step'] + 1} {last['stage']} loss {mean_loss:.4f} ({modes}) "
        f"lr {last['lr']:.2e} {samples / seconds:.1f} samples/s "
        f"{seconds / len(lines):.3f} s/step data wait {100 * waited / seconds:.0f}%"
    )


def _truncate(path: Path, start: int) -> None:
    """Keep only whole lines of steps before `start`."""
    if not path.is_file():
        return
    kept: list[str] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            with contextlib.suppress(ValueError):  # a line that a kill cut short
                if json.loads(line)["step"] < start:
                    kept.append(line.rstrip("\n"))
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    os.replace(temporary, path)
