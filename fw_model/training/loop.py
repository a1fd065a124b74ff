"""The training loop: batches in, metrics and checkpoints out, with any engine.

Knows nothing about Ray or DeepSpeed: they are behind `TrainEngine`, `Feed` and `CheckpointStore`.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch

from fw_model.errors import FilmWeaverError
from fw_model.training.checkpoint import CheckpointStore, SaveClock, TrainingState, check_resumable
from fw_model.training.config import TrainingConfig
from fw_model.training.data.batch import Batch, micro_batches
from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.data.plan import PlanGroup, TrainingPlan
from fw_model.training.distributed import mean_over_ranks
from fw_model.training.ema import Ema
from fw_model.training.engine import TrainEngine
from fw_model.training.lr_schedule import learning_rate
from fw_model.training.metrics import MetricsLog
from fw_model.training.run_identity import RunIdentity
from fw_model.training.step_meter import StepMeter

_log = logging.getLogger(__name__)


class TrainingStopped(FilmWeaverError):
    """Training was stopped by SIGTERM; its state is saved and the same command resumes it."""


class Feed(Protocol):
    """Supplies a rank with its micro-batches, step by step."""

    def steps(self, start: int) -> Iterator[list[list[Batch]]]:
        """Yield the micro-batches of each group of a step, from step `start` on."""


@dataclass(frozen=True)
class LocalFeed:
    """Reads the rank's own batches from the dataset in a thread, a few steps ahead."""

    dataset: EncodedDataset
    plan: TrainingPlan
    rank: int
    world_size: int
    micro_batch: int
    history_latents: int
    ahead: int = 2

    def steps(self, start: int) -> Iterator[list[list[Batch]]]:
        reader = ThreadPoolExecutor(1, "training-feed")
        steps = range(start, self.plan.num_steps)
        try:
            pending = deque(reader.submit(self.read, step) for step in steps[: self.ahead])
            for step in steps:
                if step + self.ahead < self.plan.num_steps:
                    pending.append(reader.submit(self.read, step + self.ahead))
                yield pending.popleft().result()
        finally:
            reader.shutdown(cancel_futures=True)

    def read(self, step: int) -> list[list[Batch]]:
        """Return the micro-batches of each group of `step`."""
        share = (self.rank, self.world_size, self.micro_batch, self.history_latents)
        return [micro_batches(self.dataset, group, *share) for group in self.plan.groups(step)]


def train(
    engine: TrainEngine,
    plan: TrainingPlan,
    feed: Feed,
    store: CheckpointStore,
    config: TrainingConfig,
    identity: RunIdentity,
    metrics_path: Path | None,
) -> Ema:
    """Train to the end of the plan from the newest checkpoint of `store`; return the EMA.

    Raises CheckpointError if that checkpoint belongs to a run with another plan or `identity`, and
    TrainingStopped after SIGTERM, once the state is saved. Only rank 0 writes `metrics_path`.
    """
    names, ranks = engine.parameter_names(), engine.world_size
    ema = Ema(names, decay=config.ema.decay, rank=engine.rank, world_size=ranks)
    now = TrainingState(0, plan.hash, engine.name, identity)
    start = _resume(engine, ema, store, now, config)
    if start == 0:
        ema.update(engine.weights(), step=0)
    log = MetricsLog(metrics_path if engine.rank == 0 else None, start)
    clock = SaveClock(config.checkpoint.every_steps, config.checkpoint.every_minutes)
    meter = StepMeter(engine.device, samples_per_step=config.group_size * config.groups_per_step)
    with _stop_signal() as stopping:
        meter.wait_begins()
        for step, groups in enumerate(feed.steps(start), start):
            meter.wait_ends()
            rate = learning_rate(config.optimizer, step, plan.num_steps)
            _run_step(engine, plan.groups(step), groups, rate, meter)
            done = step + 1
            is_last = done == plan.num_steps
            if done % config.ema.every == 0:
                ema.update(engine.weights(), step=step, steps=config.ema.every)
            stage = config.stage_at(step).name
            line = meter.finish(step=step, stage=stage, learning_rate=rate)
            log.add(line, report=is_last or done % config.log_every == 0)
            stop, due = _on_any_rank(engine, stopping.is_set(), clock.is_due(done))
            if stop or due or is_last:
                log.flush()
                _save(store, engine, ema, replace(now, step=done))
                clock.saved()
            if stop and not is_last:
                raise TrainingStopped(
                    f"Training was stopped after step {done} of {plan.num_steps}; run the same "
                    "command to continue."
                )
            meter.wait_begins()
    return ema


def _run_step(
    engine: TrainEngine,
    groups: Sequence[PlanGroup],
    batches_of_groups: Sequence[Sequence[Batch]],
    rate: float,
    meter: StepMeter,
) -> None:
    weight = 1.0 / len(groups)
    for group, batches in zip(groups, batches_of_groups, strict=True):
        count = sum(batch.num_samples for batch in batches)
        for batch in batches:
            output = engine.forward(batch)
            share = weight * batch.num_samples / count
            engine.backward(output.loss * share)
            meter.add(group.mode, output, share)
    meter.gradient_norm = engine.step(rate)


def _on_any_rank(engine: TrainEngine, *claims: bool) -> list[bool]:
    """Return which claims are true on any rank: ranks must agree because they save together."""
    shares = mean_over_ranks(torch.tensor(claims, dtype=torch.float32, device=engine.device))
    return [share > 0 for share in shares.tolist()]


def _resume(
    engine: TrainEngine,
    ema: Ema,
    store: CheckpointStore,
    now: TrainingState,
    config: TrainingConfig,
) -> int:
    """Load the newest checkpoint, if there is one, and return the next step."""
    with store.latest() as folder:
        if folder is None:
            return 0
        state = TrainingState.read(folder)
        check_resumable(state, now, allow_plan_change=config.allow_plan_change)
        engine.load(folder)
        ema.load(folder)
    if engine.rank == 0:
        _log.info("continuing at step %d", state.step)
    return state.step


def _save(store: CheckpointStore, engine: TrainEngine, ema: Ema, state: TrainingState) -> None:
    def write(folder: Path) -> None:
        engine.save(folder)
        ema.save(folder)
        if engine.rank == 0:
            state.write(folder)

    store.save(state.step, write)


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM sets, so that the current step is finished and saved."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping  # only the main thread gets signals; a launcher stops its workers itself
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, before)
