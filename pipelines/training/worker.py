"""What runs in each Ray Train worker: build, resume, loop, export."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray.train
from ray.train import Checkpoint, CheckpointConsistencyMode

from fw_model.loading.folders import load_record
from fw_model.training.build import build_training_model
from fw_model.training.checkpoint import storage_errors
from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.data.plan import TrainingPlan
from fw_model.training.engine import PlainEngine, TrainEngine
from fw_model.training.export import collect_average, export_checkpoint
from fw_model.training.local import RunFolder
from fw_model.training.loop import Feed, LocalFeed, train
from fw_model.training.run_identity import identify_run
from pipelines.encoding.dataset_store import local_dataset
from pipelines.storage.tempdirs import temporary_folder
from pipelines.training.deepspeed_engine import DeepSpeedEngine
from pipelines.training.feed import RayDataFeed
from pipelines.training.job import TrainJob


def train_worker(told: dict[str, Any]) -> None:
    """Train as one of the ranks of `told["job"]`."""
    job: TrainJob = told["job"]
    config = job.config
    data = EncodedDataset(local_dataset(job.dataset))
    cache = load_record(job.model).cache
    plan = TrainingPlan(config, cache, data)
    model = build_training_model(config, job.model, data.meta)
    engine: TrainEngine
    if config.engine == "deepspeed":
        engine = DeepSpeedEngine(model, config)
    else:
        engine = PlainEngine(model, config, ray.train.torch.get_device())
    feed: Feed
    if config.feed == "ray_data":
        feed = RayDataFeed(ray.train.get_dataset_shard("plan"), engine.rank, plan.num_steps)
    else:
        feed = LocalFeed(
            data, plan, engine.rank, engine.world_size, config.micro_batch, cache.history_latents
        )
    identity = identify_run(config, job.model)
    run = RunFolder(job.output)
    ema = train(engine, plan, feed, RayStore(), config, identity, run.metrics)
    state = collect_average(engine, ema)
    if engine.rank == 0:
        export_checkpoint(state, run.model, config=config, model=job.model, meta=data.meta)


class RayStore:
    """Checkpoints kept by Ray Train: every rank reports its files, Ray merges them."""

    @contextlib.contextmanager
    def latest(self) -> Iterator[Path | None]:
        """Give the newest committed checkpoint as a local folder, or None."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield None
            return
        with checkpoint.as_directory() as folder:
            yield Path(folder)

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Report what `write` leaves in a folder, and wait until it is committed.

        A crash right after a report that is not committed would lose the checkpoint.
        """
        with temporary_folder() as folder:
            with storage_errors(f"save a checkpoint by way of {folder}"):
                write(folder)
            ray.train.report({"step": step}, checkpoint=Checkpoint.from_directory(folder))
        ray.train.get_all_reported_checkpoints(CheckpointConsistencyMode.COMMITTED)
