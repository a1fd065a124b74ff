"""Training: here in one process, or on a cluster under Ray Train with DeepSpeed.

The loop is fw_model's in both cases; this file starts workers, feeds them by Ray Data and keeps
their checkpoints with Ray Train. The same call on the same output continues a run that was cut.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fw_model.errors import CapacityError, FilmWeaverError
from fw_model.files.lock import only_one
from fw_model.loading.config import ModelConfig
from fw_model.loading.folders import load_record
from fw_model.training.build import check_encoded_with
from fw_model.training.config import TrainingConfig
from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.data.plan import TrainingPlan
from fw_model.training.local import RunFolder, train_here
from fw_model.training.run_identity import identify_run
from pipelines.encoding.dataset_store import local_dataset
from pipelines.training.job import TrainJob


def run_train(
    config: TrainingConfig, model: ModelConfig, dataset: str | Path, output: Path
) -> Path:
    """Train on an encoded dataset, a folder or a URI, and return the exported model folder."""
    whole = str(dataset) if "://" in str(dataset) else str(Path(dataset).absolute())
    job = TrainJob(config, model, whole, Path(output).absolute())
    if config.num_workers == 0:
        return train_here(config, model, local_dataset(job.dataset), job.output)
    with only_one("training", job.output):
        return _train_on_ray(job)


def _train_on_ray(job: TrainJob) -> Path:
    # Workers import torch, diffusers and DeepSpeed first, which a busy machine needs minutes for.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from pipelines.training.feed import committed_state, feed_options, plan_stream
    from pipelines.training.worker import train_worker

    data = EncodedDataset(
        local_dataset(job.dataset)
    )  # unpacked and checked here, before workers are started
    check_encoded_with(job.model, data.meta)
    plan = TrainingPlan(job.config, load_record(job.model).cache, data)
    config = job.config
    state = committed_state(job.output)
    run = RunFolder(job.output)
    wanted = (plan.num_steps, plan.hash, identify_run(config, job.model))
    finished = state is not None and (state.step, state.plan_hash, state.identity) == wanted
    if finished and run.model.is_dir():
        return run.model  # no need to start workers only to find that out
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if config.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=config.use_gpu,
            resources_per_worker=_resources(config),
        ),
        run_config=RunConfig(
            storage_path=str(job.output),
            name=run.train_state.name,
            checkpoint_config=CheckpointConfig(num_to_keep=config.checkpoint.keep),
            failure_config=FailureConfig(max_failures=config.max_failures),
            worker_runtime_env=_worker_environment(config),
        ),
        datasets={"plan": lambda: plan_stream(job)} if config.feed == "ray_data" else {},
        dataset_config=DataConfig(execution_options=feed_options()),
    )
    try:
        trainer.fit()
    except FilmWeaverError:
        raise
    except Exception as error:
        raise _readable(error) from error
    return run.model


def _resources(config: TrainingConfig) -> dict[str, float]:
    return {"CPU": config.cpus_per_worker} | ({"GPU": 1.0} if config.use_gpu else {})


def _worker_environment(config: TrainingConfig) -> dict[str, Any]:
    """Threads as many as the cores that a worker reserves, so that workers do not fight."""
    variables = {"OMP_NUM_THREADS": str(max(1, int(config.cpus_per_worker)))}
    if not config.use_gpu:
        variables["DS_ACCELERATOR"] = "cpu"
    return {"env_vars": variables}


def _readable(error: Exception) -> FilmWeaverError:
    """Return the fault that stopped the workers: one of ours as it is, others in one sentence."""
    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    for failure in failures:
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, FilmWeaverError):
                return cause
            cause = getattr(cause, "cause", None) or cause.__cause__
    first = str(failures[0]).strip().splitlines()
    return CapacityError(
        f"Training workers failed ({type(failures[0]).__name__}: {first[-1] if first else ''}); "
        "its checkpoints are kept, so the same command continues from the last one."
    )
