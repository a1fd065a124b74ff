"""What runs in each Ray Train worker: build, resume, loop, export."""

from __future__ import annotations

import ray.train

from fw_model.training.build import build_training_model
from fw_model.training.engine import PlainEngine, TrainEngine
from fw_model.training.export import collect_average, export_checkpoint
from fw_model.training.loop import Feed, train
from pipelines.training.checkpoints import RayStore
from pipelines.training.deepspeed_engine import DeepSpeedEngine
from pipelines.training.feed import RayDataFeed
from pipelines.training.job import TrainJob


def train_worker(arguments: dict[str, TrainJob]) -> None:
    """Train as one of the ranks of `arguments["job"]`."""
    job = arguments["job"]
    config = job.config
    data = job.open_data()
    plan = job.plan(data)
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
        feed = job.local_feed(data, plan, engine.rank, engine.world_size)
    ema = train(engine, plan, feed, RayStore(), config, job.identity, job.run.metrics)
    state = collect_average(engine, ema)
    if engine.rank == 0:
        export_checkpoint(state, job.run.model, config=config, model=job.model, meta=data.meta)
