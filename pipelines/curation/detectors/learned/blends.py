"""How well frames between two others are a blend of the two.

In a dissolve each frame between A and B is close to A + weight * (B - A) with a weight that rises
from 0 to 1; in a wipe each pixel is either A's or B's, ever more of them B's. N: pixels of a
thumbnail; M: frames between A and B that are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.learned.views import COLUMNS, ROWS

Floats = NDArray[np.float32]

MIN_SWITCH = 8.0  # levels by which A and B differ where a pixel switches


@dataclass(frozen=True)
class Blend:
    """How well the frames between A and B are a blend of the two.

    `weights` [M] is how much of B each frame holds; `residual` the unexplained share of change.
    """

    weights: Floats
    residual: float


def fit_dissolve(first: Floats, last: Floats, between: Floats) -> Blend:
    """Fit each frame of `between` [M, N] as `first` + weight * (`last` - `first`)."""
    change = last - first  # [N]
    energy = float(change @ change)
    offset = between - first  # [M, N]
    weights = offset @ change / energy  # [M]
    # What is left is at right angles to the change, so its square is a difference of squares.
    rest = float(np.vdot(offset, offset)) - float(weights @ weights) * energy
    return Blend(weights, max(0.0, rest) / len(between) / energy)


def fit_wipe(first: Floats, last: Floats, between: Floats) -> Blend:
    """Fit each pixel of `between` [M, N] as either `first`'s or `last`'s."""
    change = last - first
    power = change * change  # [N]
    energy = float(power.sum())
    offset = between - first  # [M, N]
    # A pixel's square distance from `first` less that from `last`: above 0 it has switched.
    nearer = (2.0 * change) * offset - power
    weights = (nearer > 0).astype(np.float32) @ power / energy  # [M]
    rest = float(np.vdot(offset, offset)) - float(np.maximum(nearer, 0.0, out=nearer).sum())
    return Blend(weights, max(0.0, rest) / len(between) / energy)


def switches(luma: Floats) -> tuple[float, float]:
    """Return the share of pixels that turn from the first's to the last's of luma [M, N] exactly
    once, and how well a quadratic of their place explains when they do.

    Both are high where an edge crosses the picture, as in a wipe, however the shots move.
    """
    change = luma[-1] - luma[0]
    offset = luma - luma[0]
    has_changed = np.abs(change) > MIN_SWITCH
    if np.count_nonzero(has_changed) < 2 * _PLACE_TERMS.shape[1]:
        return 0.0, 0.0
    is_last = (2.0 * change * offset > change * change)[:, has_changed]  # [M, changed]
    num_switches = np.count_nonzero(is_last[1:] != is_last[:-1], axis=0)
    times = np.count_nonzero(~is_last, axis=0).astype(np.float32)
    terms = _PLACE_TERMS[has_changed]
    fit, *_ = np.linalg.lstsq(terms, times, rcond=None)
    explained = 1.0 - float(np.square(times - terms @ fit).mean()) / max(float(times.var()), 1e-6)
    return float((num_switches == 1).mean()), explained


def _place_terms() -> Floats:
    """Return the terms of a quadratic of place for each pixel of a thumbnail: [N, 6]."""
    y, x = np.mgrid[-1 : 1 : ROWS * 1j, -1 : 1 : COLUMNS * 1j].reshape(2, -1)
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1).astype(np.float32)


_PLACE_TERMS = _place_terms()


def median_block(change: Floats) -> float:
    """Return the root mean square of the median of 3 x 4 blocks of a thumbnail [N]."""
    return float(median_blocks(change[None])[0])


def median_blocks(changes: Floats) -> Floats:
    """Return `median_block` of each row [M, N]: [M]."""
    ordered = np.sort((changes * changes) @ _BLOCK_MEANS, axis=1)  # [M, 12]
    return np.asarray(np.sqrt((ordered[:, 5] + ordered[:, 6]) / 2.0), np.float32)


def _block_means() -> Floats:
    """Return what makes the means of 3 x 4 blocks of a thumbnail: [N, 12]."""
    rows, columns = np.arange(ROWS) * 3 // ROWS, np.arange(COLUMNS) * 4 // COLUMNS
    block = (rows[:, None] * 4 + columns).ravel()  # [N]: which one a pixel lies in
    return np.asarray(np.eye(12, dtype=np.float32)[block] * 12 / len(block), np.float32)


_BLOCK_MEANS = _block_means()
