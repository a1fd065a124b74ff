"""Frames as gradual transitions are looked for: small luma pictures, and what is measured of them.

N: pixels of a thumbnail; M, B: frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.borders import (
    NO_BORDER,
    Border,
    Borders,
    joined,
    pair_depths,
    picture,
    with_a_picture,
)
from pipelines.curation.detectors.learned.views import COLUMNS, ROWS, View

Floats = NDArray[np.float32]

FLAT_STD = 6.0
VARIANCE_FLOOR = 4.0


@dataclass(frozen=True, slots=True)
class Window:
    """M frames in a row; `first` is the index of the first.

    Measured of each: its luma [M, N], mean, sum of squares about the mean (`power`), and whether it
    is flat inside its border.
    """

    first: int
    luma: Floats
    mean: Floats
    power: Floats
    is_flat: NDArray[np.bool_]
    borders: Borders

    def __len__(self) -> int:
        return len(self.luma)

    def part(self, start: int, stop: int | None) -> Window:
        """Return the frames `[start, stop)` of these; counted from the end if negative."""
        start, stop, _ = slice(start, stop).indices(len(self))
        return self.chosen(slice(start, stop), first=self.first + start)

    def chosen(self, frames: slice | NDArray[np.intp], *, first: int = 0) -> Window:
        """Return some of the frames, which need not be in a row."""
        return Window(
            first, self.luma[frames], self.mean[frames], self.power[frames],
            self.is_flat[frames], self.borders.part(frames),
        )  # fmt: skip

    def followed_by(self, later: Window) -> Window:
        """Return these frames and those after them."""
        return Window(
            self.first if len(self) else later.first,
            np.concatenate([self.luma, later.luma]),
            np.concatenate([self.mean, later.mean]),
            np.concatenate([self.power, later.power]),
            np.concatenate([self.is_flat, later.is_flat]),
            joined(self.borders, later.borders),
        )

    def cropped(self) -> Window:
        """Return the same frames without the border that all of them share."""
        return self.without(self.borders.shared())

    def without(self, border: Border) -> Window:
        """Return the same frames without a border."""
        if not any(border):
            return self
        return measured(self.first, _without(self.luma, border), no_borders(len(self)))

    def structure(self, first: int, last: int) -> float:
        """Return 1 - correlation of two of the frames."""
        a, b = self.luma[first] - self.mean[first], self.luma[last] - self.mean[last]
        floor = VARIANCE_FLOOR * a.size
        power = (float(self.power[first]) + floor) * (float(self.power[last]) + floor)
        return 1.0 - (float(a @ b) + floor) / math.sqrt(power)

    def structures(self, others: Window) -> Floats:
        """Return 1 - correlation of each frame with each of the others, [M, M']."""
        floor = VARIANCE_FLOOR * self.luma.shape[1]
        products = (self.luma - self.mean[:, None]) @ (others.luma - others.mean[:, None]).T
        scale = np.sqrt((self.power + floor)[:, None] * (others.power + floor))
        return np.asarray(1.0 - (products + floor) / scale, np.float32)


def pair_structures(first: Window, second: Window) -> Floats:
    """Return how far each frame of one window is from each of another, [M, M'], without the border
    that the two frames share."""
    found = first.structures(second)
    depths = pair_depths(first.borders, second.borders)
    for row in np.unique(depths.reshape(-1, 4), axis=0):
        border = with_a_picture(row.tolist())
        if any(border):
            own = (depths == row).all(2)
            found[own] = first.without(border).structures(second.without(border))[own]
    return found


def thumbnails(first: int, view: View) -> Window:
    """Reduce the frames of a view to thumbnails; `first` is the index of the first."""
    luma = np.ascontiguousarray(view.halved[:, 0]).reshape(len(view), -1)  # [M, N]
    window = measured(first, luma, view.borders)
    for border in set(view.borders.each()) - {NO_BORDER}:
        own = np.array([other == border for other in view.borders.each()]) & ~window.is_flat
        if own.any():
            window.is_flat[own] = _is_flat(_powers(_without(luma[own], border))[1])
    return window


def measured(first: int, luma: Floats, borders: Borders) -> Window:
    """Return luma [M, N] as a window."""
    mean, power = _powers(luma)
    return Window(first, luma, mean, power, _is_flat(power), borders)


def _powers(luma: Floats) -> tuple[Floats, Floats]:
    """Return the mean and the sum of squares about it of each row [M, N]."""
    mean = luma.mean(1)
    centred = luma - mean[:, None]
    return mean, np.einsum("mn,mn->m", centred, centred)


def _is_flat(power: Floats) -> NDArray[np.bool_]:
    return power < FLAT_STD**2 * ROWS * COLUMNS


def _without(luma: Floats, border: Border) -> Floats:
    full = luma.reshape(-1, ROWS, COLUMNS)
    return picture(full, border, rows=ROWS, columns=COLUMNS).reshape(len(luma), -1)


def no_borders(count: int) -> Borders:
    """Return the borders of `count` frames that have none."""
    return Borders(np.zeros((count, 4), np.int64), np.zeros((count, 4), np.float32))


def no_frames() -> Window:
    """Return a window without frames."""
    return measured(0, np.empty((0, ROWS * COLUMNS), np.float32), no_borders(0))
