"""A number that any set of stories has: what the scorecard reports and the bootstrap recomputes.

What a story adds is a row of numbers, and rows add up over stories; so the number of a set is a
function of a sum. S stories, D numbers a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Statistic:
    """`row` turns a story's payload into [D]; `of_sum` turns sums [..., D] into values [...]."""

    row: Callable[[Any], Floats]
    of_sum: Callable[[Floats], Floats]

    def rows(self, payloads: Sequence[Any]) -> Floats:
        """Return the rows of stories, [S, D]."""
        return np.stack([self.row(payload) for payload in payloads])


def _mean_row(value: float) -> Floats:
    return np.array([1.0, value])


def _mean_of_sum(sums: Floats) -> Floats:
    return np.asarray(sums[..., 1] / sums[..., 0])


MEAN = Statistic(_mean_row, _mean_of_sum)
"""The mean over stories, each a number."""


def _ratio_row(parts: Sequence[float]) -> Floats:
    return np.asarray(parts, dtype=np.float64)


def _ratio_of_sum(sums: Floats) -> Floats:
    below, above = sums[..., 0], sums[..., 1]
    return np.asarray(np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan))


RATIO = Statistic(_ratio_row, _ratio_of_sum)
"""The sum of second numbers over the sum of first ones, each story a pair; NaN over zero.

A mean of ratios would let one story with next to nothing below the line speak for all.
"""
