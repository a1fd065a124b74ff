"""The shot cache: keyframes of earlier shots, retrieved by prompt (FilmWeaver, "Shot Cache").

Knows nothing about the transformer. N keyframes in the bank, K kept, E embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from fw_model.config import StrictModel
from fw_model.errors import InputError
from fw_model.similarity import cosine_matrix, top_k

REFERENCE_SHOT = -1
DUPLICATE_COSINE = 0.995


@dataclass(frozen=True)
class Keyframe:
    """A frame that represents its shot.

    latents [C, 1, h, w] encoded alone; embedding [E] of the image, unit length; image [H, W, 3].
    `shot` is REFERENCE_SHOT for an injected reference. A pinned keyframe is always used, a muted
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


class RetrievalConfig(StrictModel):
    """How keyframes are chosen. The defaults are the paper's plain top-K."""

    diversity: float = Field(
        0.0,
        ge=0,
        le=1,
        description="How much similarity to keyframes already chosen lowers a score (maximal "
        "marginal relevance).",
    )
    max_per_entity: int | None = Field(
        None,
        ge=1,
        description="Most keyframes of one named reference or of one shot; pinned ones count but "
        "are never left out.",
    )


def retrieve(
    query: NDArray[np.float32],
    bank: Sequence[Keyframe],
    count: int,
    config: RetrievalConfig | None = None,
) -> list[ScoredKeyframe]:
    """Return the `count` keyframes of `bank` most like `query` [E], best first.

    Exact cosine top-K, ties broken by (score, shot, frame). Pinned keyframes come first and count;
    muted ones are left out. Raises InputError if more than `count` are pinned.
    """
    config = config or RetrievalConfig()
    audible = [k for k in bank if not k.muted]
    if not audible or count < 1:
        return []
    check_pinned(audible, count)
    keys = np.stack([k.embedding for k in audible])  # [N, E]
    cosine = cosine_matrix(query[None], keys)[0]  # [N]
    scores = cosine * np.array([k.weight for k in audible], dtype=np.float32)  # [N]
    order = top_k(scores, len(audible), ties=[(k.shot, k.frame) for k in audible])
    chosen = [i for i in order if audible[i].pinned]
    waiting = [i for i in order if not audible[i].pinned]
    while waiting and len(chosen) < count:
        waiting = [i for i in waiting if not _is_full(audible[i], audible, chosen, config)]
        if not waiting:
            break
        likeness = cosine_matrix(keys[waiting], keys[chosen]).max(axis=1) if chosen else 0.0
        best = waiting[int(np.argmax(scores[waiting] - config.diversity * likeness))]
        chosen.append(best)
        waiting.remove(best)
    return [ScoredKeyframe(audible[i], float(scores[i])) for i in chosen]


def check_pinned(keyframes: Sequence[Keyframe], count: int) -> None:
    """Raise InputError if more of `keyframes` are pinned than a chunk reads."""
    pinned = sum(k.pinned for k in keyframes)
    if pinned > count:
        raise InputError(
            f"{pinned} keyframes or references are pinned but a chunk reads {count}; unpin "
            f"{pinned - count} of them."
        )


def _is_full(
    candidate: Keyframe, bank: Sequence[Keyframe], chosen: Sequence[int], config: RetrievalConfig
) -> bool:
    """Return whether the entity of `candidate` has as many keyframes as it may."""
    if config.max_per_entity is None:
        return False
    entity = candidate.name or candidate.shot
    return sum((bank[i].name or bank[i].shot) == entity for i in chosen) >= config.max_per_entity


def admit(
    candidates: Sequence[Keyframe],
    bank: Sequence[Keyframe],
    duplicate_cosine: float = DUPLICATE_COSINE,
) -> list[Keyframe]:
    """Return the candidates that are not near-duplicates of keyframes of the same shot.

    Other shots are not compared: the same place in a later shot is newer, and retrieval decides
    between the two.
    """
    admitted: list[Keyframe] = []
    for candidate in candidates:
        others = [k for k in [*bank, *admitted] if k.shot == candidate.shot]
        if others:
            keys = np.stack([k.embedding for k in others])  # [N, E]
            if float(cosine_matrix(candidate.embedding[None], keys).max()) >= duplicate_cosine:
                continue
        admitted.append(candidate)
    return admitted
