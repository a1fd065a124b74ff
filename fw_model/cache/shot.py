"""The shot cache: keyframes of earlier shots, found again by prompt (FilmWeaver, "Shot Cache").

Knows nothing of the transformer. N keyframes in the bank, K kept, E embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fw_model.similarity import cosine_matrix, top_k

REFERENCE_SHOT = -1
DUPLICATE_COSINE = 0.995


@dataclass(frozen=True)
class Keyframe:
    """A frame that stands for its shot.

    latents [C, 1, h, w] encoded alone; embedding [E] of the image, unit length; image [H, W, 3].
    `shot` is REFERENCE_SHOT for an injected reference. A pinned keyframe is always read, a muted
    one never; `weight` scales its score.
    """

    keyframe_id: str
    shot: int
    frame: int
    latents: Tensor
    embedding: NDArray[np.float32]
    caption: str
    image: NDArray[np.uint8]
    name: str | None = None
    weight: float = 1.0
    pinned: bool = False
    muted: bool = False


@dataclass(frozen=True)
class ScoredKeyframe:
    """A retrieved keyframe and the score it was chosen by: weight x cosine."""

    keyframe: Keyframe
    score: float


def retrieve(
    query: NDArray[np.float32], bank: Sequence[Keyframe], count: int
) -> list[ScoredKeyframe]:
    """Return the `count` keyframes of `bank` most like `query` [E], best first.

    Exact cosine top-K, ties broken by (score, shot, frame); pinned keyframes come first and count,
    muted ones never come.
    """
    audible = [k for k in bank if not k.muted]
    if not audible or count < 1:
        return []
    keys = np.stack([k.embedding for k in audible])  # [N, E]
    cosine = cosine_matrix(query[None], keys)[0]  # [N]
    scores = cosine * np.array([k.weight for k in audible], dtype=np.float32)  # [N]
    order = top_k(scores, len(audible), ties=[(k.shot, k.frame) for k in audible])
    order = sorted(order, key=lambda i: not audible[i].pinned)  # stable: pinned first
    return [ScoredKeyframe(audible[i], float(scores[i])) for i in order[:count]]


def admit(
    candidates: Sequence[Keyframe],
    bank: Sequence[Keyframe],
    duplicate_cosine: float = DUPLICATE_COSINE,
) -> list[Keyframe]:
    """Return the candidates that show something new: no keyframe of the same shot is as alike.

    Only the candidate's own shot is compared: the same place in a later shot is wanted, it is
    newer, and retrieval decides between the two.
    """
    admitted: list[Keyframe] = []
    for candidate in candidates:
        rivals = [k for k in [*bank, *admitted] if k.shot == candidate.shot]
        if rivals:
            keys = np.stack([k.embedding for k in rivals])  # [N, E]
            if float(cosine_matrix(candidate.embedding[None], keys).max()) >= duplicate_cosine:
                continue
        admitted.append(candidate)
    return admitted
