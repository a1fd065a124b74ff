"""Saved weights: whether all are there, and that they name no path of the machine they come from.

Knows nothing of models.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fw_model.errors import CheckpointError


def check_complete(folder: Path, missing: Collection[str]) -> None:
    """Raise CheckpointError if the weights in `folder` lack the tensors named in `missing`.

    Libraries that load weights fill gaps with random numbers.
    """
    if missing:
        raise CheckpointError(
            f"The weights in {folder} are incomplete: {len(missing)} tensors are missing (first: "
            f"{min(missing)}); copy the folder again."
        )


def drop_private_keys(path: Path) -> None:
    """Take out of a saved config what diffusers notes of the folder a model was loaded from."""
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
