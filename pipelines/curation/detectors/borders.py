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
Border = tuple[int, int, int, int]
"""Grid cells at the top, bottom, left and right."""

MAX_RANGE = 8  # levels between the darkest and the brightest pixel of a row of a bar
MAX_STEP = 4  # levels between a row and the edge
MAX_SPREAD = 6  # levels between the bars of frames that share them
MIN_ROWS, MIN_COLUMNS = 3, 5  # less than this is nothing to compare
NO_BORDER: Border = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Borders:
    """The flat borders of frames: `depths` int [B, 4] in grid cells, `levels` float [B, 4].

    The order is top, bottom, left, right. A flat frame is all border.
    """

    depths: NDArray[np.int64]
    levels: Floats

    def part(self, frames: slice | NDArray[np.intp]) -> Borders:
        """Return the borders of some of the frames."""
        return Borders(self.depths[frames], self.levels[frames])

    def shared(self) -> Border:
        """Return the border that all frames share."""
        depths = self.depths.min(0)
        if not depths.any():
            return NO_BORDER
        depths[np.ptp(self.levels, axis=0) > MAX_SPREAD] = 0
        return with_a_picture(depths.tolist())

    def shared_by(self, firsts: NDArray[np.intp], lasts: NDArray[np.intp]) -> list[Border]:
        """Return the border that all frames from a first to a last one share, for each pair."""
        if not self.depths.any():
            return [NO_BORDER] * len(firsts)
        spans = zip(firsts.tolist(), lasts.tolist(), strict=True)
        return [self.part(slice(first, last + 1)).shared() for first, last in spans]

    def each(self) -> list[Border]:
        """Return the border of each frame by itself."""
        if not self.depths.any():
            return [NO_BORDER] * len(self.depths)
        return [with_a_picture(depths) for depths in self.depths.tolist()]


def with_a_picture(depths: list[int]) -> Border:
    """Return depths as a border; sides that leave no picture between them do not count."""
    top, bottom, left, right = depths
    if GRID_HEIGHT - top - bottom < MIN_ROWS:
        top = bottom = 0
    if GRID_WIDTH - left - right < MIN_COLUMNS:
        left = right = 0
    return top, bottom, left, right


def pair_depths(first: Borders, second: Borders) -> NDArray[np.int64]:
    """Return the depths that each frame shares with each of other frames, [M, M', 4]."""
    depths = np.minimum(first.depths[:, None], second.depths[None])
    depths[np.abs(first.levels[:, None] - second.levels[None]) > MAX_SPREAD] = 0
    return depths


def find_borders(luma: NDArray[np.uint8]) -> Borders:
    """Find the borders of luma [B, GRID_HEIGHT, GRID_WIDTH]."""
    depths = np.zeros((len(luma), 4), np.int64)
    levels = np.empty((len(luma), 4), np.float32)
    across = luma.swapaxes(1, 2)
    # The lines of each side, from the edge inwards.
    sides = (luma, luma[:, ::-1], across, across[:, ::-1])
    for side, lines in enumerate(sides):
        high, low = _extremes(lines[:, 0])
        levels[:, side] = (high + low) / 2.0
        flat = np.flatnonzero(high - low <= MAX_RANGE)
        if len(flat):  # few frames have an even line at an edge
            depths[flat, side] = _depths(lines[flat], levels[flat, side, None])
    return Borders(depths, levels)


def _depths(lines: NDArray[np.uint8], level: Floats) -> NDArray[np.int64]:
    """Return how many of the first lines of each frame [B, n, pixels] are flat and at `level`."""
    high, low = _extremes(lines)
    is_bar = (high - low <= MAX_RANGE) & (np.abs((high + low) / 2.0 - level) <= MAX_STEP)
    return np.where(is_bar.all(1), is_bar.shape[1], is_bar.argmin(1))


def _extremes(lines: NDArray[np.uint8]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Return the brightest and the darkest pixel of each line [..., pixels]."""
    return lines.max(-1).astype(np.int16), lines.min(-1).astype(np.int16)


def joined(*parts: Borders) -> Borders:
    """Return the borders of runs of frames, one after the other."""
    return Borders(
        np.concatenate([part.depths for part in parts]),
        np.concatenate([part.levels for part in parts]),
    )


def picture(planes: Floats, border: Border, *, rows: int, columns: int) -> Floats:
    """Return planes [..., h, w] without their border, as the means of equal areas [..., rows,
    columns]. The planes may be coarser than the grid that the border is counted in."""
    top, bottom, left, right = border
    height, width = planes.shape[-2:]
    down = _areas(GRID_HEIGHT, top, GRID_HEIGHT - bottom, rows, height)
    across = _areas(GRID_WIDTH, left, GRID_WIDTH - right, columns, width)
    return np.asarray(down @ (planes @ across.T), np.float32)


@lru_cache(maxsize=512)
def _areas(size: int, start: int, stop: int, count: int, cells: int) -> Floats:
    """Return the matrix [count, cells] that averages `[start, stop)` of a line of `size` over equal
    areas; the line is given as the means of `cells` equal parts."""
    edges = np.linspace(start, stop, count + 1)[:, None]
    places = np.arange(size)[None]
    overlap = np.minimum(edges[1:], places + 1) - np.maximum(edges[:-1], places)
    weights = np.maximum(overlap, 0.0)
    weights = weights.reshape(count, cells, size // cells).sum(2)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)
