"""Saved weights: whether they are complete, and without local paths in their config.

Knows nothing about models.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from fw_model.errors import CheckpointError


def check_complete(folder: Path, missing: Collection[str]) -> None:
    """Raise CheckpointError if tensors are `missing` from the weights in `folder`.

    Libraries that load weights fill missing tensors with random numbers.
    """
    if missing:
        raise CheckpointError(
            f"The weights in {folder} are incomplete: {len(missing)} tensors are missing (first: "
            f"{min(missing)}); copy the folder again."
        )


def drop_private_keys(path: Path) -> None:
    """Remove the folder that a model was loaded from, which diffusers saves in its config."""
    config: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
