"""How the number of a set of stories follows from its stories.

What a story adds is a row of numbers, and rows add up over stories, so the number of a set is a
function of a sum. Then the bootstrap can compute it for any resampled set. S stories, D numbers in
a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from fw_model.evaluation.metrics.inception import InceptionSums, inception_row, inception_score

Floats = NDArray[np.float64]
Payload = TypeVar("Payload")


@dataclass(frozen=True)
class Aggregate(Generic[Payload]):
    """`row` turns a story's payload into [D]; `of_sum` turns sums [..., D] into values [...]."""

    row: Callable[[Payload], Floats]
    of_sum: Callable[[Floats], Floats]

    def rows(self, payloads: Sequence[Payload]) -> Floats:
        """Return the rows of stories, [S, D]."""
        return np.stack([self.row(payload) for payload in payloads])


def _mean_row(value: float) -> Floats:
    return np.array([1.0, value])


def _mean_of_sum(sums: Floats) -> Floats:
    return np.asarray(sums[..., 1] / sums[..., 0])


def _ratio_row(parts: Sequence[float]) -> Floats:
    return np.asarray(parts, dtype=np.float64)


def _ratio_of_sum(sums: Floats) -> Floats:
    below, above = sums[..., 0], sums[..., 1]
    return np.asarray(np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan))


MEAN = Aggregate(_mean_row, _mean_of_sum)
"""The mean over stories, each one number."""

RATIO = Aggregate(_ratio_row, _ratio_of_sum)
"""The sum of second numbers over the sum of first ones, each story a pair; NaN for a zero sum.

In a mean of ratios, one story with almost nothing in its first number would outweigh all others.
"""

INCEPTION_SCORE = Aggregate[InceptionSums](inception_row, inception_score)
"""The Inception Score of all the stories' frames together."""
