"""95 % intervals of an aggregate by bootstrap over stories.

Stories are the independent samples, so stories are resampled. The resampled sets depend only on the
number of stories, so the same scores give the same interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypedDict

import numpy as np

from fw_model.evaluation.scoring.aggregates import Aggregate, Floats, Payload

_DECIMALS = 4
_RESAMPLINGS_AT_ONCE = 1000


class Interval(TypedDict):
    """The value of all stories and its 95 % percentile interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    payloads: Sequence[Payload], num_bootstrap: int, aggregate: Aggregate[Payload]
) -> Interval | None:
    """Return the interval of an aggregate; None for no payloads."""
    if not payloads:
        return None
    rows = aggregate.rows(payloads)
    return _interval(lambda counts: aggregate.of_sum(counts @ rows), len(rows), num_bootstrap)


def difference_interval(
    pairs: Sequence[tuple[Payload, Payload]], num_bootstrap: int, aggregate: Aggregate[Payload]
) -> Interval | None:
    """Return the interval of the first minus the second, on the same resampled stories."""
    if not pairs:
        return None
    first = aggregate.rows([a for a, _ in pairs])
    second = aggregate.rows([b for _, b in pairs])
    return _interval(
        lambda counts: aggregate.of_sum(counts @ first) - aggregate.of_sum(counts @ second),
        len(pairs),
        num_bootstrap,
    )


def median_interval(values: Sequence[Sequence[float]], num_bootstrap: int) -> Interval | None:
    """Return the interval of the median of all values of all stories; None for no values."""
    flat = np.array([value for story in values for value in story])
    if not len(flat):
        return None
    stories = np.repeat(np.arange(len(values)), [len(story) for story in values])
    order = np.argsort(flat, kind="stable")
    flat, stories = flat[order], stories[order]

    def median(counts: Floats) -> Floats:
        before = np.cumsum(counts[..., stories], axis=-1)  # [..., values]
        half = before[..., -1:] / 2
        low, high = (before >= half).argmax(-1), (before > half).argmax(-1)
        return np.asarray(np.where(before[..., -1] > 0, (flat[low] + flat[high]) / 2, np.nan))

    return _interval(median, len(values), num_bootstrap)


def rounded(value: float) -> float:
    """Return `value` to the scorecard's precision."""
    return round(value, _DECIMALS)


def _interval(
    value_of: Callable[[Floats], Floats], num_stories: int, num_bootstrap: int
) -> Interval | None:
    """Return the interval of `value_of`, which maps how often each story counts, [..., S], to
    values [...]; None if all stories together have no value (NaN)."""
    value = float(value_of(np.ones(num_stories)))
    if np.isnan(value):
        return None
    values = np.concatenate([value_of(c) for c in _resamplings(num_stories, num_bootstrap)])
    low, high = np.nanpercentile(values, [2.5, 97.5]).tolist()  # a resampled set may have no value
    return {"mean": rounded(value), "low": rounded(low), "high": rounded(high)}


def _resamplings(num_stories: int, num_bootstrap: int) -> Iterator[Floats]:
    """Yield how often each story is resampled, [n, S], n resamplings at a time."""
    rng = np.random.default_rng(num_stories)
    for start in range(0, num_bootstrap, _RESAMPLINGS_AT_ONCE):
        count = min(_RESAMPLINGS_AT_ONCE, num_bootstrap - start)
        stories = rng.integers(num_stories, size=(count, num_stories))
        cells = stories + num_stories * np.arange(count)[:, None]
        counts = np.bincount(cells.ravel(), minlength=count * num_stories)
        yield counts.reshape(count, num_stories).astype(np.float64)
