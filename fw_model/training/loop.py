"""The training loop: batches in, metrics and checkpoints out, over any engine.

Knows nothing of Ray or DeepSpeed: they come as a `TrainEngine`, a `Feed` and a `CheckpointStore`.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
from collections.abc import Iterator, Sequence
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
from fw_model.training.data.plan import TrainingPlan
from fw_model.training.ema import Ema
from fw_model.training.engine import TrainEngine
from fw_model.training.lr_schedule import learning_rate
from fw_model.training.metrics import MetricsLog
from fw_model.training.run_identity import Recipe
from fw_model.training.step_meter import StepMeter

_log = logging.getLogger(__name__)


class TrainingStopped(FilmWeaverError):
    """Training was asked to stop (SIGTERM); its state is saved and the same command continues."""


class Feed(Protocol):
    """Gives a rank its micro-batches, step by step."""

    def steps(self, start: int) -> Iterator[list[list[Batch]]]:
        """Yield, from step `start` on, the micro-batches of each group of the step."""


@dataclass(frozen=True)
class LocalFeed:
    """Reads the rank's own batches from the dataset, a few steps ahead, in a thread."""

    dataset: EncodedDataset
    plan: TrainingPlan
    rank: int
    world_size: int
    micro_batch: int
    history_latents: int
    ahead: int = 2

    def steps(self, start: int) -> Iterator[list[list[Batch]]]:
        """Yield, from step `start` on, the micro-batches of each group of the step."""
        ready: queue.Queue[list[list[Batch]] | BaseException] = queue.Queue(self.ahead)
        stop = threading.Event()

        def put(item: list[list[Batch]] | BaseException) -> None:
            while not stop.is_set():
                try:
                    return ready.put(item, timeout=0.2)
                except queue.Full:
                    continue

        def read() -> None:
            try:
                for step in range(start, self.plan.num_steps):
                    if stop.is_set():
                        return
                    put(self.read(step))
            except BaseException as error:  # noqa: BLE001  the loop raises it
                put(error)

        thread = threading.Thread(target=read, name="training-feed", daemon=True)
        thread.start()
        try:
            for _ in range(start, self.plan.num_steps):
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()

    def read(self, step: int) -> list[list[Batch]]:
        """Return the micro-batches of each group of `step`."""
        return [
            micro_batches(
                self.dataset,
                group,
                self.rank,
                self.world_size,
                self.micro_batch,
                self.history_latents,
            )
            for group in self.plan.groups(step)
        ]


def train(
    engine: TrainEngine,
    plan: TrainingPlan,
    feed: Feed,
    store: CheckpointStore,
    config: TrainingConfig,
    recipe: Recipe,
    metrics_path: Path | None,
) -> Ema:
    """Train to the end of the plan, continuing where the newest checkpoint of `store` stands.

    `recipe` says what else the weights follow from; a run of another one is not continued. Rank 0
    writes `metrics_path`. Raises TrainingStopped after SIGTERM, with the state saved.
    """
    ema = Ema(
        engine.parameter_names(),
        decay=config.ema.decay,
        rank=engine.rank,
        world_size=engine.world_size,
    )
    now = TrainingState(0, plan.hash, engine.name, engine.world_size, recipe)
    start = _resume(engine, ema, store, now, allow_plan_change=config.allow_plan_change)
    if start == 0:
        ema.update(engine.weights(), step=0)
    log = MetricsLog(metrics_path if engine.rank == 0 else None, start)
    clock = SaveClock(config.checkpoint.every_steps, config.checkpoint.every_minutes)
    meter = StepMeter(engine.device, samples_per_step=config.group_size * config.groups_per_step)

    def save(next_step: int) -> None:
        state = replace(now, step=next_step)
        log.flush()
        store.save(next_step, lambda folder: _write(folder, engine, ema, state))
        clock.saved()

    with _stop_signal() as stopping:
        meter.wait_begins()
        for step, groups in enumerate(feed.steps(start), start):
            meter.wait_ends()
            rate = learning_rate(config.optimizer, step, plan.num_steps)
            _run_step(engine, plan, step, groups, rate, meter)
            done = step + 1
            if done % config.ema.every == 0:
                ema.update(engine.weights(), step=step, steps=config.ema.every)
            stage = config.stage_at(step).name
            line = meter.finish(engine, step=step, stage=stage, learning_rate=rate)
            log.add(line, report=done % config.log_every == 0 or done == plan.num_steps)
            # Ranks agree on stopping and saving, because every rank takes part in a save.
            wish = torch.tensor([float(stopping.is_set()), float(clock.is_due(done))])
            stop, due = (engine.mean(wish.to(engine.device)) > 0).tolist()
            if stop or due or done == plan.num_steps:
                save(done)
            if stop and done < plan.num_steps:
                raise TrainingStopped(
                    f"Training was stopped after step {done} of {plan.num_steps}; run the same "
                    "command to continue."
                )
            meter.wait_begins()
    log.flush()
    return ema


def _run_step(
    engine: TrainEngine,
    plan: TrainingPlan,
    step: int,
    groups: Sequence[Sequence[Batch]],
    rate: float,
    meter: StepMeter,
) -> None:
    for group, batches in zip(plan.groups(step), groups, strict=True):
        count = sum(batch.num_samples for batch in batches)
        for batch in batches:
            output = engine.forward(batch)
            share = group.weight * batch.num_samples / count
            engine.backward(output.loss * share)
            meter.add(group.mode, output, share)
    meter.gradient_norm = engine.step(rate)


def _resume(
    engine: TrainEngine,
    ema: Ema,
    store: CheckpointStore,
    now: TrainingState,
    *,
    allow_plan_change: bool,
) -> int:
    """Load the newest checkpoint, if any, and return the step to go on with."""
    with store.latest() as folder:
        if folder is None:
            return 0
        state = TrainingState.read(folder)
        check_resumable(state, now, allow_plan_change=allow_plan_change)
        engine.load(folder)
        ema.load(folder)
    if engine.rank == 0:
        _log.info("continuing at step %d", state.step)
    return state.step


def _write(folder: Path, engine: TrainEngine, ema: Ema, state: TrainingState) -> None:
    engine.save(folder)
    ema.save(folder)
    if engine.rank == 0:
        state.write(folder)


@contextmanager
def _stop_signal() -> Iterator[threading.Event]:
    """Give an event that SIGTERM sets, so that the running step ends before the state is saved."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping  # a worker thread cannot take signals; its launcher stops it
        return
    before = signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    try:
        yield stopping
    finally:
        signal.signal(signal.SIGTERM, before)
