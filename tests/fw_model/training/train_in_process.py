"""Trains in a process of its own, to be killed: CONFIG.json MODEL.json DATASET OUTPUT."""

import sys
from pathlib import Path

from fw_model.loading.config import ModelConfig
from fw_model.training.config import TrainingConfig
from fw_model.training.local import train_here

if __name__ == "__main__":
    config = TrainingConfig.model_validate_json(Path(sys.argv[1]).read_text())
    model = ModelConfig.model_validate_json(Path(sys.argv[2]).read_text())
    train_here(config, model, Path(sys.argv[3]), Path(sys.argv[4]))
