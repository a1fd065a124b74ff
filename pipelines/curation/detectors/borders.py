"""Flat borders: black bars of any kind, and other edges that carry no picture.

Bars are the same on both sides of a cut. Counted as picture, they hide it. A border is a run of
rows or columns at an edge whose pixels all have the edge's level. Frames that are compared are
cropped by the border that all of them share. Knows nothing about cuts. B, M: frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.base import GRID_HEIGHT, GRID_WIDTH

Floats = NDArray[np.float32]

MAX_RANGE = 8  # levels between the darkest and the brightest pixel of a row of a bar
MAX_STEP = 4  # levels between a row and the edge
MAX_SPREAD = 6  # levels between the bars of frames that share them
MIN_ROWS, MIN_COLUMNS = 3, 5  # less than this is nothing to compare


@dataclass(frozen=True)
class Borders:
    """The flat borders of frames: `depths` int [B, 4] in grid cells, `levels` float [B, 4].

    The order is top, bottom, left, right. A flat frame is all border.
    """

    depths: NDArray[np.int64]
    levels: Floats

    def part(self, frames: slice | NDArray[np.intp]) -> Borders:
        """Return the borders of some of the frames."""
        return Borders(self.depths[frames], self.levels[frames])

    def shared(self) -> tuple[int, int, int, int]:
        """Return the border that all frames share: cells at the top, bottom, left and right."""
        depths = self.depths.min(0)
        depths[np.ptp(self.levels, axis=0) > MAX_SPREAD] = 0
        top, bottom, left, right = (int(depth) for depth in depths)
        if GRID_HEIGHT - top - bottom < MIN_ROWS:
            top = bottom = 0
        if GRID_WIDTH - left - right < MIN_COLUMNS:
            left = right = 0
        return top, bottom, left, right


def find_borders(luma: NDArray[np.uint8]) -> Borders:
    """Find the borders of luma [B, GRID_HEIGHT, GRID_WIDTH]."""
    depths = np.empty((len(luma), 4), np.int64)
    levels = np.empty((len(luma), 4), np.float32)
    for first_side, axis in ((0, 2), (2, 1)):
        high, low = luma.max(axis).astype(np.int16), luma.min(axis).astype(np.int16)  # [B, n]
        middle, is_flat = (high + low) / 2.0, high - low <= MAX_RANGE
        for side, order in ((first_side, 1), (first_side + 1, -1)):
            level, flat = middle[:, ::order], is_flat[:, ::order]
            is_bar = flat & (np.abs(level - level[:, :1]) <= MAX_STEP)
            depths[:, side] = np.where(is_bar.all(1), is_bar.shape[1], is_bar.argmin(1))
            levels[:, side] = level[:, 0]
    return Borders(depths, levels)


def joined(*parts: Borders) -> Borders:
    """Return the borders of runs of frames, one after the other."""
    return Borders(
        np.concatenate([part.depths for part in parts]),
        np.concatenate([part.levels for part in parts]),
    )


def picture(
    planes: NDArray[np.uint8] | Floats,
    border: tuple[int, int, int, int],
    *,
    rows: int,
    columns: int,
) -> Floats:
    """Return planes [..., GRID_HEIGHT, GRID_WIDTH] without their border, as the means of equal
    areas [..., rows, columns]."""
    top, bottom, left, right = border
    down = _areas(GRID_HEIGHT, top, GRID_HEIGHT - bottom, rows)
    across = _areas(GRID_WIDTH, left, GRID_WIDTH - right, columns)
    return np.asarray(down @ (planes.astype(np.float32) @ across.T), np.float32)


@lru_cache(maxsize=512)
def _areas(size: int, start: int, stop: int, count: int) -> Floats:
    """Return the matrix [count, size] that averages `[start, stop)` of a line over equal areas."""
    edges = np.linspace(start, stop, count + 1)[:, None]
    cells = np.arange(size)[None]
    overlap = np.minimum(edges[1:], cells + 1) - np.maximum(edges[:-1], cells)
    weights = np.maximum(overlap, 0.0)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)
