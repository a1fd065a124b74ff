"""A whole training run in this process: data, plain engine, loop, export."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fw_model.files.lock import only_one
from fw_model.loading.config import ModelConfig
from fw_model.loading.folders import load_record
from fw_model.training.build import build_training_model, check_encoded_with
from fw_model.training.checkpoint import FolderStore
from fw_model.training.config import TrainingConfig
from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.data.plan import TrainingPlan
from fw_model.training.engine import PlainEngine
from fw_model.training.export import collect_average, export_checkpoint
from fw_model.training.loop import LocalFeed, train
from fw_model.training.run_identity import identify_run


@dataclass(frozen=True)
class RunFolder:
    """The output folder of a run. A run started by version 0.1 keeps that version's file names."""

    path: Path

    @property
    def model(self) -> Path:
        """The exported model."""
        return self.path / ("checkpoint" if self._is_from_0_1 else "model")

    @property
    def train_state(self) -> Path:
        """The checkpoints from which a run resumes."""
        return self.path / ("checkpoints" if self._is_from_0_1 else "train_state")

    @property
    def metrics(self) -> Path:
        """One JSON line per step."""
        return self.path / "metrics.jsonl"

    @property
    def _is_from_0_1(self) -> bool:
        return (self.path / "checkpoints").is_dir()


def train_here(config: TrainingConfig, model: ModelConfig, dataset: Path, output: Path) -> Path:
    """Train in one process with the plain engine and return the exported model folder.

    The same call with the same output resumes an interrupted run.
    """
    with only_one("training", output):
        return _train(config, model, EncodedDataset(dataset), output)


def _train(config: TrainingConfig, model: ModelConfig, data: EncodedDataset, output: Path) -> Path:
    check_encoded_with(model, data.meta)
    cache = load_record(model).cache
    plan = TrainingPlan(config, cache, data)
    module = build_training_model(config, model, data.meta)
    engine = PlainEngine(module, config, model.torch_device())
    feed = LocalFeed(data, plan, 0, 1, config.micro_batch, cache.history_latents)
    run = RunFolder(output)
    store = FolderStore(run.train_state, config.checkpoint.keep)
    ema = train(engine, plan, feed, store, config, identify_run(config, model), run.metrics)
    average = collect_average(engine, ema)
    export_checkpoint(average, run.model, config=config, model=model, meta=data.meta)
    return run.model
