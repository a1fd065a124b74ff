"""How much people would like the pictures of a film: LAION's aesthetic predictors.

A small head on unit CLIP embeddings scores a picture from about 1 to 10. Its state dict shows which
head it is: the linear one of `aesthetic-predictor` (v1) or the MLP of
`improved-aesthetic-predictor` (v2). N pictures, E embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fw_model.embedders.base import Embedder
from fw_model.embedders.clip import OpenClipEmbedder
from fw_model.errors import CheckpointError
from fw_model.evaluation.judges.config import AestheticConfig
from fw_model.evaluation.judges.weights import StateDict, load_weights
from fw_model.evaluation.stories.truth import FilmedShot, sampled_frames

_V1_KEYS = {"weight", "bias"}
_V2_KEYS = {f"layers.{index}.{part}" for index in (0, 2, 4, 6, 7) for part in ("weight", "bias")}


class _Mlp(nn.Module):
    """The head of version 2. It has no activations: its authors left them out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        score: torch.Tensor = self.layers(embeddings)  # [N, E] -> [N, 1]
        return score


class AestheticPredictor:
    """Scores pictures by their CLIP embeddings."""

    def __init__(self, head: nn.Module, embedder: Embedder, *, frames_per_shot: int) -> None:
        self._head = head.float().eval().requires_grad_(False)
        self._embedder = embedder
        self._frames_per_shot = frames_per_shot

    @classmethod
    def load(cls, config: AestheticConfig, *, device: torch.device | str = "cpu") -> Self | None:
        """Load head and CLIP if the config names them; CheckpointError if they do not fit."""
        if config.head is None or config.clip is None:
            return None
        head, width = load_head(config.head)
        embedder = OpenClipEmbedder.load(Path(config.clip).expanduser(), device=device)
        if width != embedder.width:
            raise CheckpointError(
                f"The aesthetic head {config.head} needs embeddings of width {width}, but the CLIP "
                f"in {config.clip} has {embedder.width}; use the CLIP that it was trained on."
            )
        return cls(head, embedder, frames_per_shot=config.frames_per_shot)

    def score(self, shots: Sequence[FilmedShot]) -> float:
        """Return the mean over the sampled frames of all shots."""
        return float(self.score_pictures(sampled_frames(shots, self._frames_per_shot)).mean())

    @torch.no_grad()
    def score_pictures(self, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Return a score [N] for each picture uint8 [H, W, 3]."""
        rows = torch.as_tensor(self._embedder.embed_images(pictures))  # [N, E]
        scores: torch.Tensor = self._head(rows)[:, 0]  # [N]
        return scores


def load_head(path: str | Path) -> tuple[nn.Module, int]:
    """Return the head in a file and its input width; CheckpointError if it is of neither kind."""
    state = load_weights(path)
    head, width = _empty_head(state, path)
    try:
        head.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"The aesthetic head {path} does not load: {error}") from error
    return head, width


def _empty_head(state: StateDict, path: str | Path) -> tuple[nn.Module, int]:
    """Return a head of the kind and width that match the names and shapes of `state`."""
    first = state.get("weight", state.get("layers.0.weight"))
    if first is not None and first.ndim == 2:
        width = first.shape[1]
        if set(state) == _V1_KEYS:
            return nn.Linear(width, 1), width
        if set(state) == _V2_KEYS:
            return _Mlp(width), width
    names = ", ".join(sorted(state)[:4]) or "nothing"
    raise CheckpointError(
        f"{path} is not an aesthetic head: it has {names}. Use the linear head of version 1 "
        "(weight, bias) or the MLP without activations of version 2 (layers.0, 2, 4, 6, 7)."
    )
