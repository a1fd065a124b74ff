"""Which measure must see which fault: run over true films before a measure judges a model.

A check spoils true films more and more; its measure must be perfect on the truth and get worse
with every level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fw_model.evaluation.judges.toy_judge import ShotReading, ToyJudge
from fw_model.evaluation.metrics import accuracy, continuity, copying, drift, hue, retrieval
from fw_model.evaluation.metrics.landmarks import landmark_displacement
from fw_model.evaluation.self_test import corruptions as damage
from fw_model.evaluation.self_test.corruptions import Shots
from fw_model.evaluation.stories.truth import FilmedShot, Pixels, StoryTruth


@dataclass(frozen=True)
class TrueFilm:
    """A story's true frames as if filmed; `stranger` is another story's film of equal shape."""

    story: StoryTruth
    shots: Sequence[FilmedShot]
    stranger: Sequence[FilmedShot]

    @property
    def frames(self) -> list[Pixels]:
        """The true frames of each shot."""
        return [shot.frames for shot in self.shots]


@dataclass(frozen=True)
class Filmed:
    """A spoiled film and, for measures that ask, what the toy judge sees in it."""

    film: TrueFilm
    shots: Sequence[FilmedShot]
    toy_judge: ToyJudge

    @cached_property
    def readings(self) -> list[ShotReading]:
        """What the toy judge sees in each shot."""
        return [self.toy_judge.read(shot.frames) for shot in self.shots]


Spoil = Callable[[TrueFilm, float], Shots]
Measure = Callable[[Filmed], float | None]


@dataclass(frozen=True)
class Check:
    """`levels` rise from 0, the truth; `rises` says whether the measure must rise or fall."""

    metric: str
    fault: str
    levels: tuple[float, ...]
    spoil: Spoil
    measure: Measure
    rises: bool = False


def _strangers(film: TrueFilm, count: float) -> Shots:
    return damage.strangers(film.shots, film.stranger, int(count))


def _by_toy_judge(function: Callable[[Sequence[ShotReading], StoryTruth], float | None]) -> Measure:
    return lambda filmed: function(filmed.readings, filmed.film.story)


def _mean_hue_error(filmed: Filmed) -> float | None:
    errors = hue.hue_errors_deg(filmed.readings, filmed.film.story)
    return float(np.mean(errors)) if errors else None


def _drift(filmed: Filmed) -> float | None:
    return drift.drift_ratio(
        drift.accuracy_by_chunk(filmed.shots, filmed.readings, filmed.film.story)
    )


def _motion_over_truth(filmed: Filmed) -> float | None:
    pair = continuity.true_and_filmed_motion(filmed.shots, filmed.film.frames)
    return None if pair is None or pair[0] == 0 else pair[1] / pair[0]


_SHOTS = (0, 1, 2, 3, 4)

CHECKS = (
    Check(
        "figure_accuracy", "strangers", _SHOTS, _strangers, _by_toy_judge(accuracy.figure_accuracy)
    ),
    Check(
        "place_accuracy", "strangers", _SHOTS, _strangers, _by_toy_judge(accuracy.place_accuracy)
    ),
    Check(
        "scale_accuracy", "strangers", _SHOTS, _strangers, _by_toy_judge(accuracy.scale_accuracy)
    ),
    Check(
        "light_accuracy", "strangers", _SHOTS, _strangers, _by_toy_judge(accuracy.light_accuracy)
    ),
    Check(
        "joint_accuracy", "strangers", _SHOTS, _strangers, _by_toy_judge(accuracy.joint_accuracy)
    ),
    Check(
        "motion_over_truth",
        "frozen",
        _SHOTS,
        lambda film, count: damage.frozen(film.shots, int(count)),
        _motion_over_truth,
    ),
    Check(
        "action_accuracy",
        "frozen",
        _SHOTS,
        lambda film, count: damage.frozen(film.shots, int(count)),
        _by_toy_judge(accuracy.action_accuracy),
    ),
    Check(
        "hue_error_deg",
        "hue turned, degrees",
        (0, 20, 40, 80, 160),
        lambda film, degrees: damage.hue_turned(film.shots, degrees),
        _mean_hue_error,
        rises=True,
    ),
    Check(
        "border_jump_ratio",
        "jumping borders, pixels",
        (0, 1, 2, 4, 8),
        lambda film, pixels: damage.jumping_borders(film.shots, int(pixels)),
        lambda filmed: continuity.border_jump_ratio(filmed.shots),
        rises=True,
    ),
    Check(
        "landmark_displacement",
        "moved sideways, pixels",
        (0, 2, 4, 8),
        lambda film, pixels: damage.moved_sideways(film.shots, film.story, int(pixels)),
        lambda filmed: landmark_displacement(filmed.shots, filmed.readings, filmed.film.story),
        rises=True,
    ),
    Check(
        "flicker",
        "flickering, levels",
        (0, 4, 8, 16, 32),
        lambda film, levels: damage.flickering(film.shots, int(levels)),
        lambda filmed: continuity.flicker(filmed.shots, filmed.film.frames),
        rises=True,
    ),
    Check(
        "copy_paste",
        "copied, share",
        (0, 0.25, 0.5, 0.75, 1),
        lambda film, share: damage.copied(film.shots, share),
        lambda filmed: copying.copy_paste(filmed.shots, filmed.film.frames),
        rises=True,
    ),
    Check(
        "drift_ratio",
        "falling apart, share",
        (0, 0.25, 0.5),
        lambda film, share: damage.falling_apart(film.shots, share),
        _drift,
    ),
    Check(
        "retrieval_return_accuracy",
        "misfiled returns",
        (0, 1),
        lambda film, count: damage.misfiled(film.shots, film.story, int(count)),
        lambda filmed: retrieval.retrieval_return_accuracy(filmed.shots, filmed.film.story),
    ),
)


def run_check(check: Check, films: Sequence[TrueFilm], toy_judge: ToyJudge) -> list[float]:
    """Return the measure at every level, the mean over all films that it can judge."""
    scores = []
    for level in check.levels:
        values = []
        for film in films:
            values.append(check.measure(Filmed(film, check.spoil(film, level), toy_judge)))
        known = [value for value in values if value is not None]
        scores.append(float(np.mean(known)))
    return scores


def is_monotone(check: Check, scores: Sequence[float]) -> bool:
    """Say whether every level is worse than the one before."""
    steps = np.diff(scores)
    return bool((steps > 0).all() if check.rises else (steps < 0).all())
