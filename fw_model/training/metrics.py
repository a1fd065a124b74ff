"""metrics.jsonl of a run: one line per step, and log lines for people.

Knows nothing about how a step is measured: see step_meter.py.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from fw_model.cache.context import Mode
from fw_model.files.atomic import write_atomic

_log = logging.getLogger(__name__)


class StepMetrics(TypedDict):
    """One line of a training's metrics.jsonl; losses are means over all ranks."""

    step: int
    stage: str
    mode: str  # several are joined with "+"
    loss: float
    loss_by_mode: dict[Mode, float]
    loss_by_sigma: list[float | None]  # null if no sample had this noise level
    copy_leak: float | None
    lr: float
    grad_norm: float
    step_s: float
    data_wait_s: float
    samples_per_s: float


class MetricsFile:
    """A file of JSON lines, each with its `step`; a resumed run rewrites those from `start` on."""

    def __init__(self, path: Path, start: int) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            write_atomic(path, "".join(f"{line}\n" for line in _lines_before(start, path)))

    def append(self, lines: Iterable[Mapping[str, object]]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)


class MetricsLog:
    """The metrics of a run from step `start` on; without a path, nothing is written."""

    def __init__(self, path: Path | None, start: int) -> None:
        self._file = None if path is None else MetricsFile(path, start)
        self._unwritten: list[StepMetrics] = []
        self._unreported: list[StepMetrics] = []

    def add(self, line: StepMetrics, *, report: bool) -> None:
        """Add a step's line; `report` logs a summary of the steps since the last one."""
        if self._file is None:
            return
        self._unwritten.append(line)
        self._unreported.append(line)
        if report:
            _log.info("%s", _summary(self._unreported))
            self._unreported.clear()
            self.flush()

    def flush(self) -> None:
        """Write all lines to the file."""
        if self._file is not None and self._unwritten:
            self._file.append(self._unwritten)
        self._unwritten.clear()


def read_metrics(path: Path) -> list[StepMetrics]:
    """Return the lines of a metrics file, oldest step first."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def _lines_before(step: int, path: Path) -> list[str]:
    """Return the complete lines of the steps before `step`."""
    kept: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError):  # a line that a kill cut short
            if json.loads(line)["step"] < step:
                kept.append(line)
    return kept


def _summary(lines: list[StepMetrics]) -> str:
    last = lines[-1]
    mean_loss = sum(line["loss"] for line in lines) / len(lines)
    seconds = sum(line["step_s"] for line in lines)
    waited = sum(line["data_wait_s"] for line in lines)
    samples = sum(line["samples_per_s"] * line["step_s"] for line in lines)
    by_mode: dict[Mode, list[float]] = {}
    for line in lines:
        for mode, loss in line["loss_by_mode"].items():
            by_mode.setdefault(mode, []).append(loss)
    modes = " ".join(f"{m}={sum(v) / len(v):.4f}" for m, v in sorted(by_mode.items()))
    return (
        f"step {last['step'] + 1} {last['stage']} loss {mean_loss:.4f} ({modes}) "
        f"lr {last['lr']:.2e} {samples / seconds:.1f} samples/s "
        f"{seconds / len(lines):.3f} s/step data wait {100 * waited / seconds:.0f}%"
    )
