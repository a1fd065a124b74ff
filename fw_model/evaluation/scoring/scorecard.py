"""From the scores of individual stories to the scorecard: aggregates with intervals over stories.

Every variant films the same stories, so differences are between the same stories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from fw_model.evaluation.metrics.drift import first_and_last
from fw_model.evaluation.scoring.aggregates import INCEPTION_SCORE, MEAN, RATIO, Aggregate
from fw_model.evaluation.scoring.bootstrap import (
    Interval,
    bootstrap_interval,
    difference_interval,
    median_interval,
    rounded,
)
from fw_model.evaluation.scoring.score_rows import StoryScore
from fw_model.evaluation.scoring.story_score import METRICS
from fw_model.evaluation.variants import VARIANTS

StoryScores = Mapping[int, StoryScore]
"""The scores of a variant by seed."""

MetricIntervals = dict[str, Interval | None]
"""Intervals by metric; None where not measured."""

_AGGREGATES: Mapping[str, Aggregate[Any]] = {"inception": INCEPTION_SCORE}


class VariantDetails(TypedDict):
    """Further values of a variant: medians, motion, accuracy chunk by chunk."""

    num_stories: int
    hue_error_median_deg: Interval | None
    num_hue_comparisons: int
    border_over_usual_jump: Interval | None
    motion_over_truth: Interval | None
    joint_accuracy: float | None
    light_accuracy: float | None
    flicker: float | None
    landmark_displacement: float | None
    drift_ratio: Interval | None
    action_drift_ratio: Interval | None
    characters_found: float | None
    accuracy_by_chunk: list[float]
    actions_by_chunk: list[float]


class About(TypedDict, total=False):
    """How a scorecard was made: the toy judge's card, the name of the judging CLIP, settings."""

    toy_judge: Mapping[str, Any]
    clip: str | None
    settings: Mapping[str, Any]


class Scorecard(About):
    """The scorecard as plain JSON.

    `variants` holds the metrics of each variant, `full_minus` the full method minus the variant on
    the stories of both, `truth` the metrics of the true films.
    """

    variants: dict[str, MetricIntervals]
    full_minus: dict[str, MetricIntervals]
    truth: MetricIntervals
    details: dict[str, VariantDetails]


def build_scorecard(
    scores: Mapping[str, StoryScores], truth: StoryScores, *, num_bootstrap: int, about: About
) -> Scorecard:
    """Return the scorecard of the variants' scores and of those of the true films."""
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


def _over_stories(stories: StoryScores, metric: str, num_bootstrap: int) -> Interval | None:
    payloads = [story["metrics"][metric] for _, story in sorted(stories.items())]
    measured = [payload for payload in payloads if payload is not None]
    return bootstrap_interval(measured, num_bootstrap, _AGGREGATES.get(metric, MEAN))


def _difference(
    full: StoryScores, other: StoryScores, metric: str, num_bootstrap: int
) -> Interval | None:
    pairs = [
        (full[seed]["metrics"][metric], other[seed]["metrics"][metric])
        for seed in sorted(set(full) & set(other))
    ]
    measured = [(a, b) for a, b in pairs if a is not None and b is not None]
    return difference_interval(measured, num_bootstrap, _AGGREGATES.get(metric, MEAN))


def _details(stories: StoryScores, num_bootstrap: int) -> VariantDetails:
    details = [story["details"] for _, story in sorted(stories.items())]
    hue_errors = [d.get("hue_errors_deg", []) for d in details]
    by_chunk = [d.get("accuracy_by_chunk", []) for d in details]
    acting = [d.get("actions_by_chunk", []) for d in details]
    motion = [pair for d in details if (pair := d.get("true_and_filmed_motion"))]
    jumps = [pair for d in details if (pair := d.get("usual_and_border_jump"))]
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


def _ends(by_chunk: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    return [pair for chunks in by_chunk if (pair := first_and_last(chunks)) is not None]


def _chunk_means(by_chunk: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean of each chunk number over the stories that have it."""
    return [
        rounded(float(np.mean([chunks[i] for chunks in by_chunk if i < len(chunks)])))
        for i in range(max(map(len, by_chunk), default=0))
    ]


def _mean(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    return rounded(float(np.mean(measured))) if measured else None
