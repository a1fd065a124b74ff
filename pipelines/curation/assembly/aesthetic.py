"""How much people would like the frames of a shot, predicted from its CLIP embedding.

Reads no images, so changing the head or the threshold decodes and embeds nothing again. Knows
nothing about Ray.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import nn

from fw_model.errors import CheckpointError
from fw_model.evaluation.metrics.aesthetic import load_head
from fw_model.schemas.curated_rows import MeasuredShotRow
from pipelines.curation.config import FilterConfig


class ShotAesthetics:
    """LAION's predictor over the mean embeddings of shots."""

    def __init__(self, head: nn.Module, width: int, path: str) -> None:
        self._head = head.float().eval().requires_grad_(False)
        self._width = width
        self._path = path

    @classmethod
    def load(cls, config: FilterConfig) -> Self | None:
        """Load the configured head, if there is one; CheckpointError if the file is not one."""
        if config.aesthetic_head is None:
            return None
        return cls(*load_head(config.aesthetic_head), config.aesthetic_head)

    def scores(self, shots: Sequence[MeasuredShotRow]) -> dict[str, float]:
        """Return shot id -> score, for the shots with an embedding.

        CheckpointError if the head reads embeddings of another width.
        """
        rows = {s["shot_id"]: s["embedding"] for s in shots if s["embedding"] is not None}
        if not rows:
            return {}
        embeddings = torch.from_numpy(np.stack(list(rows.values())))  # [shots, E]
        width = embeddings.shape[1]
        if width != self._width:
            raise CheckpointError(
                f"The aesthetic head {self._path} reads embeddings of width {self._width}, but the "
                f"shots were embedded by a CLIP of width {width}; set model.embedder to the CLIP "
                "that the head was trained on (decoded videos are not decoded again)."
            )
        return dict(zip(rows, self._head(embeddings)[:, 0].tolist(), strict=True))
