"""Frames as the detector compares them: as numbers, halved, and with their borders.

B, M: frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.base import GRID_HEIGHT, GRID_WIDTH
from pipelines.curation.detectors.borders import Borders, find_borders, joined

Floats = NDArray[np.float32]

ROWS, COLUMNS = GRID_HEIGHT // 2, GRID_WIDTH // 2


@dataclass(frozen=True, slots=True)
class View:
    """M frames in a row: `levels` [M, 3, GRID_HEIGHT, GRID_WIDTH], Y, U, V; `halved` [M, 3, ROWS,
    COLUMNS], the means of their 2 x 2 cells; and their borders."""

    levels: Floats
    halved: Floats
    borders: Borders

    def __len__(self) -> int:
        return len(self.levels)

    def part(self, frames: slice | NDArray[np.intp]) -> View:
        """Return some of the frames."""
        return View(self.levels[frames], self.halved[frames], self.borders.part(frames))

    def followed_by(self, later: View) -> View:
        """Return these frames and those after them."""
        return View(
            np.concatenate([self.levels, later.levels]),
            np.concatenate([self.halved, later.halved]),
            joined(self.borders, later.borders),
        )


def view_of(planes: NDArray[np.uint8]) -> View:
    """Return planes [M, 3, GRID_HEIGHT, GRID_WIDTH] as a view."""
    levels = planes.astype(np.float32)
    # All planes, one below the other, are one picture to be halved.
    column = levels.reshape(-1, GRID_WIDTH)
    size = COLUMNS, len(column) // 2
    small = cv2.resize(column, size, interpolation=cv2.INTER_AREA) if len(column) else column
    halved = np.asarray(small, np.float32).reshape(-1, 3, ROWS, COLUMNS)
    return View(levels, halved, find_borders(planes[:, 0]))
