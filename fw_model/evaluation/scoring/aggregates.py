"""How the value of a metric for a set of stories is computed from the individual stories.

Each story contributes a row of numbers, and the value of a set is a function of the sum of its
rows. So the bootstrap can compute it for any resampled set. S stories, D numbers in a row.
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


def _ratio_of_sum(sums: Floats) -> Floats:
    below, above = sums[..., 0], sums[..., 1]
    return np.asarray(np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan))


MEAN = Aggregate[float](
    lambda value: np.array([1.0, value]), lambda sums: np.asarray(sums[..., 1] / sums[..., 0])
)
"""The mean over stories, which have one number each."""

RATIO = Aggregate[Sequence[float]](lambda pair: np.asarray(pair, dtype=np.float64), _ratio_of_sum)
"""The sum of the second numbers of pairs over the sum of the first; NaN if that is zero.

In a mean of ratios, one story with a first number near zero would outweigh all others.
"""

INCEPTION_SCORE = Aggregate[InceptionSums](inception_row, inception_score)
"""The Inception Score of all the stories' frames together."""
