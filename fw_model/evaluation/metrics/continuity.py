"""Does motion run on where one chunk ends and the next begins, and do pixels hold still?

F frames, H x W pixels; levels are of 0..255.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fw_model.evaluation.stories.truth import FilmedShot, Pixels

_NOISE_FLOOR_LEVELS = 0.5  # below what can be seen: a still shot must not divide by nearly nothing


def border_jump_ratio(shots: Sequence[FilmedShot]) -> float | None:
    """Return the jump across chunk borders over the usual jump between frames of a chunk.

    Half a level is added to both, which counts in shots that hardly move. About 1 where borders
    cannot be told; mean over shots, None where no shot has two chunks.
    """
    floor = _NOISE_FLOOR_LEVELS
    ratios = [(border + floor) / (usual + floor) for usual, border in _jumps_of(shots)]
    return float(np.mean(ratios)) if ratios else None


def usual_and_border_jump(shots: Sequence[FilmedShot]) -> tuple[float, float] | None:
    """Return the mean over shots of the median jump inside chunks, and of the jump at borders.

    In levels; None where no shot has two chunks.
    """
    pairs = _jumps_of(shots)
    if not pairs:
        return None
    usual, border = np.mean(pairs, axis=0).tolist()
    return usual, border


def true_and_filmed_motion(
    shots: Sequence[FilmedShot], truth: Sequence[Pixels]
) -> tuple[float, float] | None:
    """Return by how much frames change from one to the next, in the truth and in the film.

    The mean jump in levels inside chunks; of true frames [F, H, W, 3] at the same places. None
    where no chunk has two frames. A film that stands still has a second number of nearly nothing.
    """
    inner = [_inside(shot, frame_jumps(shot.frames)) for shot in shots]
    true_inner = [
        _inside(shot, frame_jumps(frames)) for shot, frames in zip(shots, truth, strict=True)
    ]
    if not any(map(len, inner)):
        return None
    return float(np.concatenate(true_inner).mean()), float(np.concatenate(inner).mean())


def flicker(shots: Sequence[FilmedShot], truth: Sequence[Pixels]) -> float | None:
    """Return by how many levels a pixel leaves both its neighbours in time, less what truth has.

    The distance of each frame from the median of itself, the one before and the one after: no
    steady change counts, a flash does. Edges that move swing a little in true frames [F, H, W, 3]
    as well. None where all shots have fewer than three frames.
    """
    excess = [
        _mean_swing(shot.frames) - _mean_swing(true_frames)
        for shot, true_frames in zip(shots, truth, strict=True)
        if len(shot.frames) >= 3 and len(true_frames) >= 3
    ]
    return float(np.mean(excess)) if excess else None


def _jumps_of(shots: Sequence[FilmedShot]) -> list[tuple[float, float]]:
    return [pair for shot in shots if (pair := _usual_and_border(shot)) is not None]


def _usual_and_border(shot: FilmedShot) -> tuple[float, float] | None:
    jumps = frame_jumps(shot.frames)
    borders, inside = _borders(shot), _inside(shot, jumps)
    if not borders or not len(inside):
        return None
    return float(np.median(inside)), float(jumps[borders].mean())


def _borders(shot: FilmedShot) -> list[int]:
    """Return the numbers of the jumps from one chunk to the next."""
    return [start - 1 for start in shot.chunk_starts if start > 0]


def _inside(shot: FilmedShot, jumps: np.ndarray) -> np.ndarray:
    return np.delete(jumps, _borders(shot))


def frame_jumps(frames: Pixels) -> np.ndarray:
    """Return the mean absolute change in levels from each frame to the next, [F - 1]."""
    changes = np.abs(np.diff(frames.astype(np.int16), axis=0))
    return np.asarray(changes.mean(axis=(1, 2, 3)))


def _mean_swing(frames: Pixels) -> float:
    before, now, after = (frames[i : len(frames) - 2 + i].astype(np.int16) for i in range(3))
    median = np.maximum(np.minimum(before, after), np.minimum(np.maximum(before, after), now))
    return float(np.abs(now - median).mean())
