"""From plan rows to the arrays of one micro-batch.

B samples, K keyframes, C channels, F latents, h x w latent cells, T text tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.data.plan import PlanGroup, PlanRow

Float16s = NDArray[np.float16]


@dataclass(frozen=True)
class Batch:
    """Samples of one group, as stored; texts are trimmed to the longest of each kind."""

    sample_indices: NDArray[np.int64]  # [B] counted over the whole run
    target: Float16s  # [B, C, F, h, w]
    history: Float16s  # [B, C, H, h, w]; H is 0 if the temporal cache is empty
    keyframes: Float16s  # [B, K, C, 1, h, w]; K is 0 if the shot cache is empty
    text: Float16s  # [B, T, D]
    history_text: Float16s  # [B, T, D]
    keyframe_text: Float16s  # [B, K, T, D]

    @property
    def num_samples(self) -> int:
        return len(self.sample_indices)


def assemble(dataset: EncodedDataset, rows: Sequence[PlanRow], history_latents: int) -> Batch:
    """Read the samples of `rows`, which share mode, start and length.

    History is up to `history_latents` latents before the start.
    """
    (start,) = {row.start for row in rows}
    oldest = max(0, start - history_latents)
    own_text = [dataset.text_tokens(int(dataset.shot_texts[row.shot])) for row in rows]
    empty = dataset.text_tokens(int(dataset.empty_text))
    prompts = [empty if row.drop_text else own for row, own in zip(rows, own_text, strict=True)]
    keyframes = np.array([row.keyframes for row in rows], dtype=np.int64)  # [B, K]
    shape = dataset.meta.latent_shape
    return Batch(
        sample_indices=np.array([row.sample_index for row in rows], dtype=np.int64),
        target=np.stack([dataset.latents(r.shot, r.start, r.stop) for r in rows]),
        history=np.stack([dataset.latents(r.shot, oldest, start) for r in rows]),
        keyframes=_stack_keyframes(dataset, keyframes, (shape[0], 1, *shape[1:])),
        text=_pad(prompts, dataset.meta.text_width),
        history_text=_pad(own_text, dataset.meta.text_width),
        keyframe_text=_keyframe_texts(dataset, keyframes),
    )


def micro_batches(
    dataset: EncodedDataset,
    group: PlanGroup,
    rank: int,
    world_size: int,
    micro_batch: int,
    history_latents: int,
) -> list[Batch]:
    """Return the rank's share of `group`, cut into batches of at most `micro_batch` samples."""
    rows = group.share(rank, world_size)
    return [
        assemble(dataset, rows[first : first + micro_batch], history_latents)
        for first in range(0, len(rows), micro_batch)
    ]


def pad_text(text: Float16s, num_tokens: int, device: torch.device) -> Tensor:
    """Return `text` [..., T, D] as float32, padded with zeros to `num_tokens` tokens."""
    tokens = torch.from_numpy(text).to(device, torch.float32)
    return torch.nn.functional.pad(tokens, (0, 0, 0, num_tokens - tokens.shape[-2]))


def _stack_keyframes(
    dataset: EncodedDataset, keyframes: NDArray[np.int64], shape: tuple[int, ...]
) -> Float16s:
    stacked = np.zeros((*keyframes.shape, *shape), dtype=np.float16)
    for position in np.ndindex(*keyframes.shape):
        stacked[position] = dataset.keyframe_latents(int(keyframes[position]))
    return stacked


def _keyframe_texts(dataset: EncodedDataset, keyframes: NDArray[np.int64]) -> Float16s:
    """Return the caption of each keyframe's shot: [B, K, T, D]."""
    shots = dataset.keyframe_shots[keyframes]  # [B, K]
    texts = [dataset.text_tokens(int(dataset.shot_texts[shot])) for shot in shots.reshape(-1)]
    padded = _pad(texts, dataset.meta.text_width)
    return padded.reshape(*keyframes.shape, *padded.shape[1:])


def _pad(texts: Sequence[Float16s], width: int) -> Float16s:
    """Stack texts [T_i, D] as [N, max T, D] with at least one token, so shapes are never empty."""
    longest = max([1, *(len(text) for text in texts)])
    padded = np.zeros((len(texts), longest, width), dtype=np.float16)
    for row, text in enumerate(texts):
        padded[row, : len(text)] = text
    return padded
