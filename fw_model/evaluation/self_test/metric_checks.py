"""Which metric must detect which fault: run on true films before a metric judges a model.

A check corrupts true films more and more; its metric must be perfect on the truth and get worse
with every level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fw_model.evaluation.judges.toy_judge import ShotReading, ToyJudge
from fw_model.evaluation.metrics import (
    accuracy,
    continuity,
    copying,
    drift,
    flicker,
    hue,
    landmarks,
    retrieval,
)
from fw_model.evaluation.self_test import corruptions
from fw_model.evaluation.self_test.corruptions import Shots
from fw_model.evaluation.stories.truth import FilmedShot, Pixels, StoryTruth


@dataclass(frozen=True)
class TrueFilm:
    """A story's true frames as filmed shots; `other` is an equally long film of another story."""

    story: StoryTruth
    shots: Sequence[FilmedShot]
    other: Sequence[FilmedShot]

    @property
    def frames(self) -> list[Pixels]:
        """The true frames of each shot."""
        return [shot.frames for shot in self.shots]


@dataclass(frozen=True)
class CorruptedFilm:
    """A corrupted film and, for metrics that use it, what the toy judge sees in it."""

    film: TrueFilm
    shots: Sequence[FilmedShot]
    toy_judge: ToyJudge

    @cached_property
    def readings(self) -> list[ShotReading]:
        """What the toy judge sees in each shot."""
        return [self.toy_judge.read(shot.frames) for shot in self.shots]


Corrupt = Callable[[TrueFilm, float], Shots]
Measure = Callable[[CorruptedFilm], float | None]


@dataclass(frozen=True)
class Check:
    """`levels` rise from 0, the truth; `rises` is whether the metric must rise instead of fall."""

    metric: str
    fault: str
    levels: tuple[float, ...]
    corrupt: Corrupt
    measure: Measure
    rises: bool = False


def _replaced(film: TrueFilm, count: float) -> Shots:
    return corruptions.replace_shots(film.shots, film.other, int(count))


def _frozen(film: TrueFilm, count: float) -> Shots:
    return corruptions.freeze_shots(film.shots, int(count))


def _of_readings(function: Callable[[Sequence[ShotReading], StoryTruth], float | None]) -> Measure:
    return lambda corrupted: function(corrupted.readings, corrupted.film.story)


def _mean_hue_error(readings: Sequence[ShotReading], story: StoryTruth) -> float | None:
    errors = hue.hue_errors_deg(readings, story)
    return float(np.mean(errors)) if errors else None


def _drift(corrupted: CorruptedFilm) -> float | None:
    return drift.drift_ratio(
        drift.accuracy_by_chunk(corrupted.shots, corrupted.readings, corrupted.film.story)
    )


def _motion_over_truth(corrupted: CorruptedFilm) -> float | None:
    pair = continuity.true_and_filmed_motion(corrupted.shots, corrupted.film.frames)
    return None if pair is None or pair[0] == 0 else pair[1] / pair[0]


_SHOTS = (0, 1, 2, 3, 4)
_READ_OFF_SHOTS = {
    "figure_accuracy": accuracy.figure_accuracy,
    "place_accuracy": accuracy.place_accuracy,
    "scale_accuracy": accuracy.scale_accuracy,
    "light_accuracy": accuracy.light_accuracy,
    "joint_accuracy": accuracy.joint_accuracy,
}

CHECKS = (
    *(
        Check(metric, "other story's shots", _SHOTS, _replaced, _of_readings(function))
        for metric, function in _READ_OFF_SHOTS.items()
    ),
    Check("motion_over_truth", "frozen shots", _SHOTS, _frozen, _motion_over_truth),
    Check(
        "action_accuracy", "frozen shots", _SHOTS, _frozen, _of_readings(accuracy.action_accuracy)
    ),
    Check(
        "hue_error_deg",
        "rotated hues, degrees",
        (0, 20, 40, 80, 160),
        lambda film, degrees: corruptions.rotate_hues(film.shots, degrees),
        _of_readings(_mean_hue_error),
        rises=True,
    ),
    Check(
        "border_jump_ratio",
        "shifted chunks, pixels",
        (0, 1, 2, 4, 8),
        lambda film, pixels: corruptions.shift_chunks(film.shots, int(pixels)),
        lambda corrupted: continuity.border_jump_ratio(corrupted.shots),
        rises=True,
    ),
    Check(
        "landmark_displacement",
        "shifted returns, pixels",
        (0, 2, 4, 8),
        lambda film, pixels: corruptions.shift_returns(film.shots, film.story, int(pixels)),
        lambda corrupted: landmarks.landmark_displacement(
            corrupted.shots, corrupted.readings, corrupted.film.story
        ),
        rises=True,
    ),
    Check(
        "flicker",
        "flicker, levels",
        (0, 4, 8, 16, 32),
        lambda film, levels: corruptions.add_flicker(film.shots, int(levels)),
        lambda corrupted: flicker.flicker(corrupted.shots, corrupted.film.frames),
        rises=True,
    ),
    Check(
        "copy_paste",
        "copied keyframes, share",
        (0, 0.25, 0.5, 0.75, 1),
        lambda film, share: corruptions.blend_keyframes(film.shots, share),
        lambda corrupted: copying.copy_paste(corrupted.shots, corrupted.film.frames),
        rises=True,
    ),
    Check(
        "drift_ratio",
        "noise at the end, share",
        (0, 0.25, 0.5),
        lambda film, share: corruptions.replace_chunks_with_noise(film.shots, share),
        _drift,
    ),
    Check(
        "retrieval_return_accuracy",
        "wrong places retrieved",
        (0, 1),
        lambda film, count: corruptions.retrieve_wrong_places(film.shots, film.story, int(count)),
        lambda corrupted: retrieval.retrieval_return_accuracy(
            corrupted.shots, corrupted.film.story
        ),
    ),
)


def run_check(check: Check, films: Sequence[TrueFilm], toy_judge: ToyJudge) -> list[float]:
    """Return the metric at every level, as a mean over the films that it can judge."""
    scores = []
    for level in check.levels:
        values = [
            check.measure(CorruptedFilm(film, check.corrupt(film, level), toy_judge))
            for film in films
        ]
        scores.append(float(np.mean([value for value in values if value is not None])))
    return scores


def is_monotone(check: Check, scores: Sequence[float]) -> bool:
    """Return whether every level is worse than the one before."""
    steps = np.diff(scores)
    return bool((steps > 0).all() if check.rises else (steps < 0).all())
