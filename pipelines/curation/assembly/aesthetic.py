"""How much people would like the pictures of a shot, told from the CLIP embedding that it has.

Costs a few products a shot and no picture: another head or threshold looks at nothing again.
Knows nothing about Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from fw_model.errors import CheckpointError
from fw_model.evaluation.metrics.aesthetic import load_head
from pipelines.curation.config import FilterConfig


class ShotAesthetics:
    """LAION's predictor over the mean embeddings of shots."""

    def __init__(self, head: nn.Module, width: int, path: str) -> None:
        self._head = head.float().eval().requires_grad_(False)
        self._width = width
        self._path = path

    @classmethod
    def load(cls, config: FilterConfig) -> Self | None:
        """Load the head, None where none is given; CheckpointError if it is no such head."""
        if config.aesthetic_head is None:
            return None
        return cls(*load_head(config.aesthetic_head), config.aesthetic_head)

    def scored(self, video: Mapping[str, Any]) -> dict[str, Any]:
        """Return an analyzed video whose shots carry their score; null without an embedding.

        CheckpointError if the head reads embeddings of another width.
        """
        shots = video["shots"]
        rows = {i: s["embedding"] for i, s in enumerate(shots) if s["embedding"] is not None}
        scores: dict[int, float] = {}
        if rows:
            embeddings = torch.from_numpy(np.stack(list(rows.values())))  # [shots, E]
            self._check(embeddings.shape[1])
            scores = dict(zip(rows, self._head(embeddings)[:, 0].tolist(), strict=True))
        return {
            **video,
            "shots": [shot | {"aesthetic": scores.get(i)} for i, shot in enumerate(shots)],
        }

    def _check(self, width: int) -> None:
        if width != self._width:
            raise CheckpointError(
                f"The aesthetic head {self._path} reads embeddings of width {self._width}, but the "
                f"shots were embedded by a CLIP of width {width}; set model.embedder to the CLIP "
                "that the head was trained on (decoded videos are not decoded again)."
            )
