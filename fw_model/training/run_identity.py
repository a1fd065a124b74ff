"""What a run's weights follow from besides its plan, by name, so that a resume sees changes.

Knows nothing of checkpoints.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from fw_model.loading.config import ModelConfig
from fw_model.loading.fingerprints import part_fingerprint
from fw_model.loading.folders import load_record
from fw_model.training.config import TrainingConfig

Recipe = dict[str, str]

# An export made with another of these would not be the model that was trained.
FIXED = ("model weights", "training.lora", "training.num_layers")


def recipe(config: TrainingConfig, model: ModelConfig) -> Recipe:
    """Return a hash of every setting that decides the weights, by the name a user knows it by."""
    scratch = model.backbone.scratch if model.checkpoint is None else None
    start: Any = part_fingerprint(model, ("transformer",))
    if scratch is not None:
        start = (scratch, model.backbone.scratch_seed)
    named: dict[str, Any] = {
        "model weights": start,
        "model.cache": load_record(model).cache.model_dump(mode="json"),
        "training.noises_per_context": config.noises_per_context,
        "training.precision": config.precision,
    }
    if config.num_layers is not None:
        named["training.num_layers"] = config.num_layers
    for section in ("objective", "augment", "optimizer", "ema", "lora"):
        settings = getattr(config, section)
        named[f"training.{section}"] = settings and settings.model_dump(mode="json")
    return {name: _hash(value) for name, value in named.items()}


def differences(before: Recipe, now: Recipe) -> list[str]:
    """Return the names of what differs, in order."""
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
