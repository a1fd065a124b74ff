"""Are pixels stable where nothing moves? Levels are 0..255."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fw_model.evaluation.stories.truth import FilmedShot, Pixels


def flicker(shots: Sequence[FilmedShot], truth: Sequence[Pixels]) -> float | None:
    """Return how much pixels flicker, in levels, minus the flicker of the true frames.

    Flicker is the distance of each frame from the median of itself, the frame before and the frame
    after: a steady change adds nothing, a flash does. Moving edges flicker a little in true
    frames [F, H, W, 3] too. None if all shots have fewer than three frames.
    """
    excess = [
        _mean_swing(shot.frames) - _mean_swing(true_frames)
        for shot, true_frames in zip(shots, truth, strict=True)
        if len(shot.frames) >= 3 and len(true_frames) >= 3
    ]
    return float(np.mean(excess)) if excess else None


def _mean_swing(frames: Pixels) -> float:
    before, now, after = (frames[i : len(frames) - 2 + i].astype(np.int16) for i in range(3))
    median = np.maximum(np.minimum(before, after), np.minimum(np.maximum(before, after), now))
    return float(np.abs(now - median).mean())
