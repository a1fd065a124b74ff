"""Shots to scenes, by their embeddings and colours alone.

A scene goes on at a shot if one of the shots before it is similar to the shot or to one soon after
it. So a dialogue that cuts back and forth (A-B-A-B) stays one scene although A and B differ.
Handles one video at a time; the cost is O(shots x window^2).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.config import SceneConfig

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """Positions of a scene's shots, in order.

    `min_link_similarity` is the lowest similarity with which a shot joined (1 for a single shot).
    """

    shots: tuple[int, ...]
    min_link_similarity: float


def cluster_shots(
    embeddings: Floats, durations_s: Sequence[float], config: SceneConfig
) -> list[Scene]:
    """Group the shots of one video, given in order, into scenes.

    embeddings: unit rows [S, E]; durations_s: the length of each shot [S].
    """
    scenes: list[Scene] = []
    open_shots: list[int] = []
    links: list[float] = []
    length_s = 0.0
    for shot, duration_s in enumerate(durations_s):
        link = best_link(embeddings, shot, config.window)
        has_room = (
            len(open_shots) < config.max_shots and length_s + duration_s <= config.max_duration_s
        )
        if open_shots and not (has_room and link >= config.similarity_threshold):
            scenes.append(_scene(open_shots, links))
            open_shots, links, length_s = [], [], 0.0
        elif open_shots:
            links.append(link)
        open_shots.append(shot)
        length_s += duration_s
    if open_shots:
        scenes.append(_scene(open_shots, links))
    return scenes


def scene_id(shot_ids: Sequence[str]) -> str:
    """Return the identity of a scene, a hash of its shots in order."""
    return hashlib.sha256("\n".join(shot_ids).encode()).hexdigest()[:32]


def mean_similarity(embeddings: Floats) -> float:
    """Return the mean cosine between different shots of one scene; 1 for a single shot."""
    count = len(embeddings)
    if count < 2:
        return 1.0
    total = float((embeddings @ embeddings.T).sum()) - float((embeddings * embeddings).sum())
    return total / (count * (count - 1))


def best_link(embeddings: Floats, shot: int, window: int) -> float:
    """Return the highest similarity of a shot before `shot` to `shot` or one after it, of shots at
    most `window` apart; 1 for the first shot."""
    before = embeddings[max(0, shot - window) : shot]
    if not len(before):
        return 1.0
    similarity = before @ embeddings[shot : shot + window].T
    distance = np.arange(similarity.shape[1]) + np.arange(len(before), 0, -1)[:, None]
    return float(similarity[distance <= window].max())


def _scene(shots: list[int], links: list[float]) -> Scene:
    return Scene(tuple(shots), min(links, default=1.0))
