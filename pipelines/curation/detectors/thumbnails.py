"""Frames as gradual transitions are looked for: half the detector's grid, luma only.

N: pixels of a thumbnail; M, B: frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.base import GRID_HEIGHT, GRID_WIDTH, SmallFrames
from pipelines.curation.detectors.borders import Borders, find_borders, joined, picture

Floats = NDArray[np.float32]

ROWS, COLUMNS = GRID_HEIGHT // 2, GRID_WIDTH // 2
FLAT_STD = 6.0
VARIANCE_FLOOR = 4.0


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A frame's luma, and what is measured of it."""

    index: int
    luma: Floats  # [N]
    centred: Floats  # [N], its mean taken off
    power: float  # sum of squares of `centred`
    is_flat: bool  # inside its border


@dataclass(frozen=True, slots=True)
class Window:
    """M frames in a row, the luma of all of them, [M, N], and their borders."""

    frames: Sequence[Thumbnail]
    luma: Floats
    borders: Borders

    def part(self, start: int, stop: int | None) -> Window:
        """Return the frames `[start, stop)` of these; counted from the end if negative."""
        own = slice(start, stop)
        return Window(self.frames[own], self.luma[own], self.borders.part(own))

    def cropped(self) -> Window:
        """Return the same frames without the border that all of them share."""
        border = self.borders.shared()
        if not any(border):
            return self
        full = self.luma.reshape(-1, ROWS, COLUMNS)
        full = full.repeat(2, axis=1).repeat(2, axis=2)  # on the grid that borders are counted in
        luma = picture(full, border, rows=ROWS, columns=COLUMNS).reshape(len(full), -1)
        frames = measured(luma, self.frames[0].index)
        return Window(frames, luma, no_borders(len(frames)))


def structure(first: Thumbnail, last: Thumbnail) -> float:
    """Return 1 - correlation of two thumbnails."""
    floor = VARIANCE_FLOOR * first.luma.size
    power = (first.power + floor) * (last.power + floor)
    return 1.0 - (float(first.centred @ last.centred) + floor) / math.sqrt(power)


def pair_structure(first: Window, second: Window) -> float:
    """Return how far two frames are apart without the border that both share."""
    both = Window(
        [*first.frames, *second.frames],
        np.concatenate([first.luma, second.luma]),
        joined(first.borders, second.borders),
    ).cropped()
    return structure(both.frames[0], both.frames[1])


def thumbnails(frames: SmallFrames) -> Window:
    """Reduce frames to thumbnails."""
    # All frames, one below the other, are one picture to be halved.
    column = frames.planes[:, 0].reshape(-1, GRID_WIDTH).astype(np.float32)
    halved = cv2.resize(column, (COLUMNS, len(column) // 2), interpolation=cv2.INTER_AREA)
    luma = np.asarray(halved, np.float32).reshape(-1, ROWS * COLUMNS)  # [B, N]
    borders = find_borders(frames.planes[:, 0])
    thumbnails = measured(luma, frames.first)
    for i, thumbnail in enumerate(thumbnails):
        if borders.depths[i].any() and not thumbnail.is_flat:
            alone = Window([thumbnail], luma[i : i + 1], borders.part(slice(i, i + 1))).cropped()
            thumbnails[i] = replace(thumbnail, is_flat=alone.frames[0].is_flat)
    return Window(thumbnails, luma, borders)


def measured(luma: Floats, first: int) -> list[Thumbnail]:
    """Return the thumbnails of luma [B, N]; `first` is the index of the first."""
    centred = luma - luma.mean(1, keepdims=True)  # [B, N]
    powers = np.einsum("bn,bn->b", centred, centred)  # [B]
    flat = powers < FLAT_STD**2 * luma.shape[1]
    return [
        Thumbnail(first + i, luma[i], centred[i], float(powers[i]), bool(flat[i]))
        for i in range(len(luma))
    ]


def no_borders(count: int) -> Borders:
    """Return the borders of `count` frames that have none."""
    return Borders(np.zeros((count, 4), np.int64), np.zeros((count, 4), np.float32))
