"""From the scores of single stories to the scorecard: statistics with intervals over stories.

Stories are the independent samples, so they are what the bootstrap draws again. The same stories
are filmed by every variant, so differences are taken on the same stories.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fw_model.evaluation.metrics.drift import first_and_last
from fw_model.evaluation.metrics.inception import INCEPTION_SCORE
from fw_model.evaluation.metrics.statistic import MEAN, RATIO, Floats, Statistic
from fw_model.evaluation.scoring.story_score import METRICS
from fw_model.evaluation.variants import VARIANTS

Interval = dict[str, float]
StoryScores = Mapping[int, Mapping[str, Any]]  # seed -> what `score_story` returned

STATISTICS: Mapping[str, Statistic] = {"inception": INCEPTION_SCORE}
"""How a metric comes from its stories' payloads, where it is not their mean."""

_DECIMALS = 4
_RESAMPLINGS_AT_ONCE = 1000


def build_scorecard(
    scores: Mapping[str, StoryScores],
    truth: StoryScores,
    *,
    num_bootstrap: int,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the scorecard as plain JSON.

    `variants`: each variant's metrics as {mean, low, high} with a 95 % interval, null where not
    measured. `full_minus`: the same for differences to the full method, on the stories of both.
    `truth`: what the metrics say of the true films. `details`: what has no column, of all stories
    together.
    """
    full = scores.get("full", {})
    judged = {**scores, "truth": truth}
    return {
        "variants": {
            name: {m: _over_stories(scores.get(name, {}), m, num_bootstrap) for m in METRICS}
            for name in VARIANTS
        },
        "full_minus": {
            name: {m: _difference(full, stories, m, num_bootstrap) for m in METRICS}
            for name, stories in scores.items()
            if name != "full" and full
        },
        "truth": {m: _over_stories(truth, m, num_bootstrap) for m in METRICS},
        "details": {
            name: _details(stories, num_bootstrap) for name, stories in judged.items() if stories
        },
        **about,
    }


def bootstrap_interval(
    payloads: Sequence[Any], num_bootstrap: int, statistic: Statistic = MEAN
) -> Interval | None:
    """Return a statistic and its 95 % percentile interval over resampled stories; None of none.

    The statistic is computed anew for each resampled set. The draws depend on the number of
    stories alone, so the same scores give the same interval.
    """
    if not payloads:
        return None
    rows = statistic.rows(payloads)
    return _interval(lambda counts: statistic.of_sum(counts @ rows), len(rows), num_bootstrap)


def difference_interval(
    pairs: Sequence[tuple[Any, Any]], num_bootstrap: int, statistic: Statistic = MEAN
) -> Interval | None:
    """Return first less second, with the same stories drawn for both; None of no pairs."""
    if not pairs:
        return None
    first = statistic.rows([a for a, _ in pairs])
    second = statistic.rows([b for _, b in pairs])
    return _interval(
        lambda counts: statistic.of_sum(counts @ first) - statistic.of_sum(counts @ second),
        len(pairs),
        num_bootstrap,
    )


def median_interval(values: Sequence[Sequence[float]], num_bootstrap: int) -> Interval | None:
    """Return the median of all values of all stories, stories drawn anew; None of no value."""
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


def _interval(
    value_of: Callable[[Floats], Floats], num_stories: int, num_bootstrap: int
) -> Interval | None:
    """Return the interval of `value_of`: how often each story counts, [..., S], to values [...].

    None where all stories together have no value (NaN).
    """
    value = value_of(np.ones(num_stories))
    if np.isnan(value):
        return None
    drawn = np.concatenate([value_of(c) for c in _resamplings(num_stories, num_bootstrap)])
    low, high = np.nanpercentile(drawn, [2.5, 97.5])  # a drawn set may have no value
    return {"mean": _rounded(value), "low": _rounded(low), "high": _rounded(high)}


def _resamplings(num_stories: int, num_bootstrap: int) -> Iterator[Floats]:
    """Yield how often each story is drawn, [n, S], a part of the resamplings at a time."""
    rng = np.random.default_rng(num_stories)
    for start in range(0, num_bootstrap, _RESAMPLINGS_AT_ONCE):
        count = min(_RESAMPLINGS_AT_ONCE, num_bootstrap - start)
        drawn = rng.integers(num_stories, size=(count, num_stories))
        cells = drawn + num_stories * np.arange(count)[:, None]
        counts = np.bincount(cells.ravel(), minlength=count * num_stories)
        yield counts.reshape(count, num_stories).astype(np.float64)


def _over_stories(stories: StoryScores, metric: str, num_bootstrap: int) -> Interval | None:
    payloads = [story["metrics"][metric] for _, story in sorted(stories.items())]
    known = [payload for payload in payloads if payload is not None]
    return bootstrap_interval(known, num_bootstrap, STATISTICS.get(metric, MEAN))


def _difference(
    full: StoryScores, other: StoryScores, metric: str, num_bootstrap: int
) -> Interval | None:
    pairs = [
        (full[seed]["metrics"][metric], other[seed]["metrics"][metric])
        for seed in sorted(set(full) & set(other))
    ]
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    return difference_interval(known, num_bootstrap, STATISTICS.get(metric, MEAN))


def _details(stories: StoryScores, num_bootstrap: int) -> dict[str, Any]:
    """Return what a reader asks next: medians, motion, light, accuracy chunk by chunk."""
    details = [story["details"] for _, story in sorted(stories.items())]
    hue_errors = [d.get("hue_errors_deg", []) for d in details]
    by_chunk = [d.get("accuracy_by_chunk", []) for d in details]
    acting = [d.get("actions_by_chunk", []) for d in details]
    motion = [d["true_and_filmed_motion"] for d in details if d.get("true_and_filmed_motion")]
    jumps = [d["usual_and_border_jump"] for d in details if d.get("usual_and_border_jump")]
    return {
        "num_stories": len(details),
        "hue_error_median_deg": median_interval(hue_errors, num_bootstrap),
        "num_hue_comparisons": sum(map(len, hue_errors)),
        "border_over_usual_jump": bootstrap_interval(jumps, num_bootstrap, RATIO),
        "motion_over_truth": bootstrap_interval(motion, num_bootstrap, RATIO),
        "joint_accuracy": _mean([d.get("joint_accuracy") for d in details]),
        "light_accuracy": _mean([d.get("light_accuracy") for d in details]),
        "flicker": _mean([d.get("flicker") for d in details]),
        "landmark_displacement": _mean([d.get("landmark_displacement") for d in details]),
        "drift_ratio": bootstrap_interval(_ends(by_chunk), num_bootstrap, RATIO),
        "action_drift_ratio": bootstrap_interval(_ends(acting), num_bootstrap, RATIO),
        "characters_found": _mean([d.get("characters_found") for d in details]),
        "accuracy_by_chunk": _chunk_means(by_chunk),
        "actions_by_chunk": _chunk_means(acting),
    }


def _ends(by_chunk: Sequence[Sequence[float]]) -> list[tuple[float, float]]:
    return [pair for chunks in by_chunk if (pair := first_and_last(chunks)) is not None]


def _chunk_means(by_chunk: Sequence[Sequence[float]]) -> list[float | None]:
    return [
        _mean([chunks[i] for chunks in by_chunk if i < len(chunks)])
        for i in range(max(map(len, by_chunk), default=0))
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _rounded(np.mean(known)) if known else None


def _rounded(value: Any) -> float:
    return round(float(value), _DECIMALS)


def table_rows(scorecard: Mapping[str, Any]) -> list[list[str]]:
    """Return the scorecard as a table: a header, then a metric a row, a measured variant a column.

    Cells read "mean [low, high]", or "not measured".
    """
    columns = {
        name: metrics
        for name, metrics in scorecard["variants"].items()
        if any(value is not None for value in metrics.values())
    }
    if any(value is not None for value in scorecard["truth"].values()):
        columns["truth"] = scorecard["truth"]
    rows = [["metric", *columns]]
    rows += [[metric, *(_cell(c[metric]) for c in columns.values())] for metric in METRICS]
    return rows


def table_text(scorecard: Mapping[str, Any]) -> str:
    """Return the table in columns of equal width, for a console."""
    rows = table_rows(scorecard)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return "not measured"
    return f"{interval['mean']:.3g} [{interval['low']:.3g}, {interval['high']:.3g}]"
