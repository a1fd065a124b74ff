"""Does a shot copy its cached keyframes instead of showing something new?

Consistency metrics reward copying: the paper's model without augmentation has a higher overall
consistency but follows its prompts less. So only similarity beyond that of the truth counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fw_model.evaluation.stories.truth import FilmedShot, Pixels

_SIZE = 16  # compares layout and colour only, so blur makes no difference


def copy_paste(shots: Sequence[FilmedShot], truth: Sequence[Pixels]) -> float | None:
    """Return how similar frames are to their nearest cached keyframe, minus the same for the truth.

    `truth` holds the true frames [F, H, W, 3] of each shot; its cache holds the same frame numbers
    of the same shots. 0 for the truth, at most 2; None if no shot read a cached keyframe.
    """
    excess = []
    for filmed, true_frames in zip(shots, truth, strict=True):
        cached = [c for c in filmed.cached if c.shot >= 0]
        if not cached:
            continue
        true_cached = [truth[c.shot][min(c.frame, len(truth[c.shot]) - 1)] for c in cached]
        similarity = nearest_similarity(filmed.frames, [c.image for c in cached])
        excess.append(similarity - nearest_similarity(true_frames, true_cached))
    return float(np.mean(excess)) if excess else None


def nearest_similarity(frames: Pixels, cached: Sequence[Pixels]) -> float:
    """Return the mean over frames of the correlation with the most similar cached frame, -1..1."""
    table = _standardised(frames) @ _standardised(cached).T  # [F, N]
    return float(table.max(axis=1).mean())


def _standardised(images: Sequence[Pixels] | Pixels) -> NDArray[np.float32]:
    """Return images as vectors of mean 0 and length 1, [N, D]: products are correlations."""
    small = [cv2.resize(i, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA) for i in images]
    rows = np.stack(small).reshape(len(small), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6))
