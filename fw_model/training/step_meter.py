"""Measures a training step: losses by mode and by noise level, copy leak, time, data wait."""

from __future__ import annotations

import time

import torch

from fw_model.cache.context import MODES, Mode
from fw_model.training.distributed import mean_over_ranks
from fw_model.training.metrics import StepMetrics
from fw_model.training.step import StepOutput

_SIGMA_EDGES = (0.25, 0.5, 0.75)  # between the noise levels that are reported separately


class StepMeter:
    """Adds up the losses and times of one step."""

    def __init__(self, device: torch.device, samples_per_step: int) -> None:
        self._device = device
        self._samples = samples_per_step
        self.gradient_norm = 0.0
        self._waited_s = 0.0
        self._step_began = time.perf_counter()
        self._reset()

    def _reset(self) -> None:
        self._loss_and_leak = torch.zeros(3, device=self._device)  # loss, leak sum, leak count
        self._by_mode = torch.zeros(len(MODES), 2, device=self._device)  # sum, count
        self._by_sigma = torch.zeros(len(_SIGMA_EDGES) + 1, 2, device=self._device)  # sum, count

    def wait_begins(self) -> None:
        """Start the clock of the step: the loop asks for data."""
        self._step_began = time.perf_counter()

    def wait_ends(self) -> None:
        """Note that the data has arrived."""
        self._waited_s = time.perf_counter() - self._step_began

    def add(self, mode: Mode, output: StepOutput, share: float) -> None:
        """Count a micro-batch that makes up `share` of the step's loss."""
        losses = output.sample_loss.float()
        seen = ~output.copy_leak.isnan()
        self._loss_and_leak += torch.stack(
            [losses.mean() * share, output.copy_leak.nan_to_num(), seen.float()]
        )
        level = torch.bucketize(output.sigma, torch.tensor(_SIGMA_EDGES, device=self._device))
        ones = torch.ones_like(losses)
        self._by_sigma.index_add_(0, level, torch.stack([losses, ones], dim=1))
        self._by_mode[MODES.index(mode)] += torch.stack([losses.sum(), ones.sum()])

    def finish(self, *, step: int, stage: str, learning_rate: float) -> StepMetrics:
        """Return the step's metrics, averaged over ranks, and start the next step (all ranks)."""
        parts = (self._loss_and_leak, self._by_mode.flatten(), self._by_sigma.flatten())
        values = mean_over_ranks(torch.cat(parts)).tolist()
        loss, leak, leak_count = values[:3]
        modes = zip(MODES, _means(values[3 : 3 + 2 * len(MODES)]), strict=True)
        by_mode = {mode: mean for mode, mean in modes if mean is not None}
        elapsed = time.perf_counter() - self._step_began
        self._reset()
        return {
            "step": step,
            "stage": stage,
            "mode": "+".join(by_mode),
            "loss": loss,
            "loss_by_mode": by_mode,
            "loss_by_sigma": _means(values[3 + 2 * len(MODES) :]),
            "copy_leak": leak / leak_count if leak_count else None,
            "lr": learning_rate,
            "grad_norm": self.gradient_norm,
            "step_s": round(elapsed, 4),
            "data_wait_s": round(self._waited_s, 4),
            "samples_per_s": round(self._samples / elapsed, 3),
        }


def _means(pairs: list[float]) -> list[float | None]:
    """Return sum / count of each (sum, count) pair, None where nothing was counted."""
    return [
        total / count if count else None
        for total, count in zip(pairs[::2], pairs[1::2], strict=True)
    ]
