"""From plan rows to the tensors of one micro-batch, and to bytes for the way between machines.

B samples, K keyframes, C channels, F latents, h x w latent cells, T text tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load, save
from torch import Tensor

from fw_model.training.data.dataset import EncodedDataset
from fw_model.training.data.plan import PlanGroup, PlanRow

Float16s = NDArray[np.float16]


@dataclass(frozen=True)
class Batch:
    """Samples of one group, as stored: latents float16, texts trimmed to the longest of each kind.

    target [B, C, F, h, w]; history [B, C, H, h, w], H 0 where the temporal cache is empty;
    keyframes [B, K, C, 1, h, w], K 0 where the shot cache is; texts [B, T, D] and [B, K, T, D];
    g [B]; negatives [B, K].
    """

    g: NDArray[np.int64]
    target: Float16s
    history: Float16s
    keyframes: Float16s
    negatives: NDArray[np.bool_]
    text: Float16s
    history_text: Float16s
    keyframe_text: Float16s

    @property
    def num_samples(self) -> int:
        """How many samples are in it."""
        return len(self.g)

    def to_bytes(self) -> bytes:
        """Return the batch as safetensors."""
        arrays = {f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}
        content: bytes = save(arrays)
        return content

    @classmethod
    def from_bytes(cls, data: bytes) -> Batch:
        """Undo `to_bytes`."""
        return cls(**load(data))


def assemble(dataset: EncodedDataset, rows: Sequence[PlanRow], history_latents: int) -> Batch:
    """Read the samples of `rows`, which share mode and shape; history is the newest latents."""
    starts = {row.start for row in rows}
    assert len(starts) == 1, "rows of a batch must share their start"
    start = starts.pop()
    oldest = max(0, start - history_latents)
    own_text = [dataset.text_tokens(int(dataset.shot_texts[row.shot])) for row in rows]
    empty = dataset.text_tokens(int(dataset.empty_text))
    prompts = [empty if row.drop_text else own for row, own in zip(rows, own_text, strict=True)]
    keyframes = np.array([row.keyframes for row in rows], dtype=np.int64)  # [B, K]
    shape = dataset.meta.latent_shape
    return Batch(
        g=np.array([row.g for row in rows], dtype=np.int64),
        target=np.stack([dataset.latents(r.shot, r.start, r.stop) for r in rows]),
        history=np.stack([dataset.latents(r.shot, oldest, start) for r in rows]),
        keyframes=_stack_keyframes(dataset, keyframes, (shape[0], 1, *shape[1:])),
        negatives=np.array([row.negatives for row in rows], dtype=np.bool_),
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
    """Return `text` [..., T, D] as float32, padded by zeros to `num_tokens` as the encoder pads."""
    tokens = torch.from_numpy(text).to(device, torch.float32)
    return torch.nn.functional.pad(tokens, (0, 0, 0, num_tokens - tokens.shape[-2]))


def _stack_keyframes(
    dataset: EncodedDataset, keyframes: NDArray[np.int64], shape: tuple[int, ...]
) -> Float16s:
    stacked = np.zeros((*keyframes.shape, *shape), dtype=np.float16)
    for at in np.ndindex(*keyframes.shape):
        stacked[at] = dataset.keyframe_latents(int(keyframes[at]))
    return stacked


def _keyframe_texts(dataset: EncodedDataset, keyframes: NDArray[np.int64]) -> Float16s:
    """Return the caption that each keyframe's shot has: [B, K, T, D]."""
    shots = dataset.keyframe_shots[keyframes]  # [B, K]
    texts = [dataset.text_tokens(int(dataset.shot_texts[shot])) for shot in shots.reshape(-1)]
    padded = _pad(texts, dataset.meta.text_width)
    return padded.reshape(*keyframes.shape, *padded.shape[1:])


def _pad(texts: Sequence[Float16s], width: int) -> Float16s:
    """Stack texts [T_i, D] into [N, max T, D]; at least one token, so shapes are never empty."""
    longest = max([1, *(len(text) for text in texts)])
    padded = np.zeros((len(texts), longest, width), dtype=np.float16)
    for row, text in enumerate(texts):
        padded[row, : len(text)] = text
    return padded
