"""Does a shot copy its cached keyframes instead of filming anew?

Consistency measures reward copying: the paper's model without augmentation scores higher overall
consistency, and follows its prompts worse. So likeness is counted only beyond that of the truth.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from fw_model.evaluation.stories.truth import FilmedShot, Pixels

_SIZE = 16  # likeness of layout and colour: blur must not pass for it


def copy_paste(shots: Sequence[FilmedShot], truth: Sequence[Pixels]) -> float | None:
    """Return the likeness of frames to their nearest cached keyframe, less what truth has.

    `truth` holds the true frames [F, H, W, 3] of each shot. Truth's cache is made of the same
    frames of the same shots. 0 for truth, at most 2; None where no shot read a cached keyframe.
    """
    excess = []
    for filmed, true_frames in zip(shots, truth, strict=True):
        cached = [c for c in filmed.cached if c.shot >= 0]
        if not cached:
            continue
        true_cached = [truth[c.shot][min(c.frame, len(truth[c.shot]) - 1)] for c in cached]
        likeness = nearest_likeness(filmed.frames, [c.image for c in cached])
        excess.append(likeness - nearest_likeness(true_frames, true_cached))
    return float(np.mean(excess)) if excess else None


def nearest_likeness(frames: Pixels, cached: Sequence[Pixels]) -> float:
    """Return the mean over frames of the correlation with the most alike cached frame, -1 to 1."""
    table = _standardised(frames) @ _standardised(cached).T  # [F, N]
    return float(table.max(axis=1).mean())


def _standardised(images: Sequence[Pixels] | Pixels) -> np.ndarray:
    """Return images as vectors of mean zero and length one, [N, D]: their products correlate."""
    small = [cv2.resize(i, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA) for i in images]
    rows = np.stack(small).reshape(len(small), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6))
