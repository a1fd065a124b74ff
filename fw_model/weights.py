"""Whether saved weights are all there; libraries that load them fill gaps with random numbers.

Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from fw_model.errors import CheckpointError


def check_complete(folder: Path, missing: Collection[str]) -> None:
    """Raise CheckpointError if the weights in `folder` lack the tensors named in `missing`."""
    if missing:
        raise CheckpointError(
            f"The weights in {folder} are incomplete: {len(missing)} tensors are missing (first: "
            f"{min(missing)}); copy the folder again."
        )
