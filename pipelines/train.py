"""Training: in this process, or on a cluster with Ray Train. The whole Ray graph is in this file.

    stage   from                         to                                 runs
    plan    steps x ranks still to come  a row number for each              Ray Data
    read    each row number              the batches of a rank in a step    ReadBatches, an actor
    train   each rank's rows, in order   gradients, checkpoints, the model  train_worker, per rank

With `training.feed=local` each worker reads its own batches and the first two stages are left out.
The loop is fw_model's in all cases. The same call on the same output continues an interrupted run.
"""

from __future__ import annotations

import os
from pathlib import Path

import ray.data
from ray.data import ExecutionOptions
from ray.data._internal.datasource.range_datasource import RangeDatasource
from ray.train import CheckpointConfig, DataConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from fw_model.errors import FilmWeaverError
from fw_model.files.lock import only_one
from fw_model.loading.config import ModelConfig
from fw_model.training.build import check_encoded_with
from fw_model.training.config import TrainingConfig
from fw_model.training.local import train_here
from pipelines.encoding.dataset_store import local_dataset
from pipelines.training.checkpoints import committed_state, resume_step
from pipelines.training.failures import readable_failure
from pipelines.training.feed import ReadBatches
from pipelines.training.job import TrainJob
from pipelines.training.worker import train_worker

_READER_CPUS = 0.1  # reading mapped arrays is cheap, and must fit beside the workers


def run_train(
    config: TrainingConfig, model: ModelConfig, dataset: str | Path, output: Path
) -> Path:
    """Train on an encoded dataset, a folder or a URI, and return the exported model folder."""
    address = str(dataset) if "://" in str(dataset) else str(Path(dataset).absolute())
    job = TrainJob(config, model, address, Path(output).absolute())
    if config.num_workers == 0:
        return train_here(config, model, local_dataset(job.dataset), job.output)
    with only_one("training", job.output):
        return _train_on_ray(job)


def _train_on_ray(job: TrainJob) -> Path:
    data = job.open_data()  # checked here, before workers are started
    check_encoded_with(job.model, data.meta)
    plan, state = job.plan(data), committed_state(job)
    wanted = (plan.num_steps, plan.hash, job.identity)
    is_finished = state is not None and (state.step, state.plan_hash, state.identity) == wanted
    if is_finished and job.run.model.is_dir():
        return job.run.model  # without starting workers
    # Workers import torch, diffusers and DeepSpeed first, which takes minutes on a busy machine.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    try:
        _trainer(job).fit()
    except FilmWeaverError:
        raise
    except Exception as error:
        raise readable_failure(error) from error
    return job.run.model


def _trainer(job: TrainJob) -> TorchTrainer:
    config = job.config
    cpus, gpus = config.cpus_per_worker, {"GPU": 1.0} if config.use_gpu else {}
    # As many threads as reserved cores, so that workers do not compete.
    variables = {"OMP_NUM_THREADS": str(max(1, int(cpus)))}
    if not config.use_gpu:
        variables["DS_ACCELERATOR"] = "cpu"
    in_order = ExecutionOptions()
    in_order.preserve_order = True
    return TorchTrainer(
        train_worker,  # one per rank; every rank reports its part of each checkpoint
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if config.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=config.use_gpu,
            resources_per_worker={"CPU": cpus, **gpus},
        ),
        run_config=RunConfig(
            storage_path=str(job.output),
            name=job.run.train_state.name,
            checkpoint_config=CheckpointConfig(num_to_keep=config.checkpoint.keep),
            failure_config=FailureConfig(max_failures=config.max_failures),
            worker_runtime_env={"env_vars": variables},
        ),
        datasets={"plan": lambda: _batches(job)} if config.feed == "ray_data" else {},
        dataset_config=DataConfig(execution_options=in_order),
    )


def _batches(job: TrainJob) -> ray.data.Dataset:
    """The rows that are still to be trained on; Ray Train asks for them at every start."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    first = resume_step(job)
    count = max(1, (job.config.num_steps - first) * job.config.num_workers)
    rows = ray.data.read_datasource(  # ray.data.range would reserve a whole core per task
        RangeDatasource(n=count, block_format="arrow", column_name="id"),
        ray_remote_args={"num_cpus": _READER_CPUS},
        concurrency=1,  # more tasks at once would start more processes
        override_num_blocks=count,
    )
    return rows.map_batches(  # 1:1, CPU; an actor, because each task would map the dataset again
        ReadBatches,
        fn_constructor_args=(job, first),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=_READER_CPUS,
    )
