"""What every training worker gets from the driver."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fw_model.loading.config import ModelConfig
from fw_model.training.config import TrainingConfig


@dataclass(frozen=True)
class TrainJob:
    """What every worker is told. Paths must be seen by all nodes."""

    config: TrainingConfig
    model: ModelConfig
    dataset: str
    output: Path
