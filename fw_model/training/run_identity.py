"""What the weights of a run depend on besides its plan, so that a resumed run notices changes.

Knows nothing about checkpoints.
"""

from __future__ import annotations

import hashlib
import json

from fw_model.loading.config import ModelConfig
from fw_model.loading.fingerprints import part_fingerprint
from fw_model.loading.folders import load_record, starts_new
from fw_model.training.config import TrainingConfig

RunIdentity = dict[str, str]

# The export starts from these; others would not give the trained model.
UNCHANGEABLE = ("model weights", "training.lora", "training.num_layers")


def identify_run(config: TrainingConfig, model: ModelConfig) -> RunIdentity:
    """Return a hash of each setting that affects the weights, by the name that users know."""
    scratch = (model.backbone.scratch, model.backbone.scratch_seed)
    named: dict[str, object] = {
        "model weights": scratch
        if starts_new(model)
        else part_fingerprint(model, ("transformer",)),
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


def differences(before: RunIdentity, now: RunIdentity) -> list[str]:
    """Return the names whose hashes differ, in order."""
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
