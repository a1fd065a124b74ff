"""A training run as every worker gets it: its settings, and how its data is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fw_model.loading.config import ModelConfig
from fw_model.loading.folders import load_record
from fw_model.training.config import TrainingConfig
from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.data.plan import TrainingPlan
from fw_model.training.local import RunFolder
from fw_model.training.loop import LocalFeed
from fw_model.training.run_identity import RunIdentity, identify_run
from pipelines.encoding.dataset_store import local_dataset


@dataclass(frozen=True)
class TrainJob:
    """What every worker gets. All nodes must see the paths."""

    config: TrainingConfig
    model: ModelConfig
    dataset: str
    output: Path

    @property
    def run(self) -> RunFolder:
        """The output folder."""
        return RunFolder(self.output)

    @property
    def identity(self) -> RunIdentity:
        """What a checkpoint must have been made with for the run to resume from it."""
        return identify_run(self.config, self.model)

    def open_data(self) -> EncodedDataset:
        """Open the dataset on this node, which fetches it from a bucket first."""
        return EncodedDataset(local_dataset(self.dataset))

    def plan(self, data: EncodedDataset) -> TrainingPlan:
        """Return the plan over `data`."""
        return TrainingPlan(self.config, load_record(self.model).cache, data)

    def local_feed(
        self, data: EncodedDataset, plan: TrainingPlan, rank: int, world_size: int
    ) -> LocalFeed:
        """Return the feed of a rank that reads `data` itself."""
        history = load_record(self.model).cache.history_latents
        return LocalFeed(data, plan, rank, world_size, self.config.micro_batch, history)
