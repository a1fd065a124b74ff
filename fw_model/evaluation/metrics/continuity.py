"""Does motion continue from one chunk to the next, and is there motion at all?

A jump is the mean absolute change from one frame to the next, in levels of 0..255. F frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fw_model.evaluation.stories.truth import FilmedShot, Pixels

Jumps = NDArray[np.float64]

_NOISE_FLOOR_LEVELS = 0.5  # invisible, so that a still shot does not divide by almost zero


def border_jump_ratio(shots: Sequence[FilmedShot]) -> float | None:
    """Return the jump at chunk borders over the median jump inside chunks, as a mean over shots.

    Half a level is added to both, which matters in shots that hardly move. About 1 if borders are
    invisible. None if no shot has two chunks.
    """
    floor = _NOISE_FLOOR_LEVELS
    ratios = [(border + floor) / (usual + floor) for usual, border in _jumps_of(shots)]
    return float(np.mean(ratios)) if ratios else None


def usual_and_border_jump(shots: Sequence[FilmedShot]) -> tuple[float, float] | None:
    """Return the mean over shots of the median jump inside chunks, and of the jump at borders.

    None if no shot has two chunks.
    """
    pairs = _jumps_of(shots)
    if not pairs:
        return None
    usual, border = np.mean(pairs, axis=0).tolist()
    return usual, border


def true_and_filmed_motion(
    shots: Sequence[FilmedShot], truth: Sequence[Pixels]
) -> tuple[float, float] | None:
    """Return the mean jump inside chunks of the true frames [F, H, W, 3] and of the film.

    The second is close to zero for a still film. None if no chunk has two frames.
    """
    filmed = [_inside(shot, frame_jumps(shot.frames)) for shot in shots]
    true = [_inside(shot, frame_jumps(frames)) for shot, frames in zip(shots, truth, strict=True)]
    if not any(map(len, filmed)):
        return None
    return float(np.concatenate(true).mean()), float(np.concatenate(filmed).mean())


def frame_jumps(frames: Pixels) -> Jumps:
    """Return the jump from each frame to the next, [F - 1]."""
    changes = np.abs(np.diff(frames.astype(np.int16), axis=0))
    return np.asarray(changes.mean(axis=(1, 2, 3)))


def _jumps_of(shots: Sequence[FilmedShot]) -> list[tuple[float, float]]:
    """Return the median jump inside chunks and the mean jump at borders of each shot with both."""
    pairs = []
    for shot in shots:
        jumps = frame_jumps(shot.frames)
        borders, inside = _borders(shot), _inside(shot, jumps)
        if borders and len(inside):
            pairs.append((float(np.median(inside)), float(jumps[borders].mean())))
    return pairs


def _borders(shot: FilmedShot) -> list[int]:
    """Return the indices of the jumps from one chunk to the next."""
    return [start - 1 for start in shot.chunk_starts if start > 0]


def _inside(shot: FilmedShot, jumps: Jumps) -> Jumps:
    return np.delete(jumps, _borders(shot))
