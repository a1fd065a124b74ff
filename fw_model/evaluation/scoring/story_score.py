"""All measures of one film: what goes into a story's file, before any averaging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from fw_model.embedders.base import Embedder
from fw_model.evaluation.judges.toy_judge import ShotReading, ToyJudge
from fw_model.evaluation.metrics import (
    accuracy,
    consistency,
    continuity,
    copying,
    drift,
    hue,
    retrieval,
)
from fw_model.evaluation.metrics.aesthetic import AestheticPredictor
from fw_model.evaluation.metrics.characters import (
    CharacterFinder,
    StoryCharacters,
    found_by,
    found_by_toy_judge,
)
from fw_model.evaluation.metrics.inception import InceptionJudge
from fw_model.evaluation.metrics.landmarks import landmark_displacement
from fw_model.evaluation.stories.truth import FilmedShot, Pixels, StoryTruth

METRICS = (
    "figure_accuracy",
    "place_accuracy",
    "scale_accuracy",
    "action_accuracy",
    "hue_error_deg",
    "border_jump_ratio",
    "character_consistency",
    "overall_consistency",
    "character_alignment",
    "overall_alignment",
    "aesthetic",
    "inception",
    "copy_paste",
    "retrieval_return_accuracy",
)
"""The scorecard's rows. `aesthetic` and `inception` need weights that are not packaged."""


@dataclass(frozen=True)
class Judges:
    """Who judges a film. Without a `finder` the toy judge finds the characters of toy films, and
    nobody those of others; what no judge is there for is not measured."""

    toy_judge: ToyJudge
    embedder: Embedder | None
    finder: CharacterFinder | None = None
    aesthetic: AestheticPredictor | None = None
    inception: InceptionJudge | None = None


def score_story(
    shots: Sequence[FilmedShot], story: StoryTruth, truth: Sequence[Pixels] | None, judges: Judges
) -> dict[str, Any]:
    """Return {"metrics": {metric: payload or None}, "details": ...} of a film, as plain JSON.

    A payload is what the scorecard's statistic of that metric reads: a number, but for `inception`
    the sums that a story adds to a set. `truth` holds the true frames of each shot, [F, H, W, 3],
    as long as the filmed ones; None for stories of words alone, of which only what needs no truth
    is measured.
    """
    metrics: dict[str, Any] = dict.fromkeys(METRICS)
    metrics["border_jump_ratio"] = continuity.border_jump_ratio(shots)
    if judges.aesthetic is not None:
        metrics["aesthetic"] = judges.aesthetic.score(shots)
    if judges.inception is not None:
        metrics["inception"] = judges.inception.payload(shots)
    details: dict[str, Any] = {}
    characters = StoryCharacters()
    if story.is_toy and truth is not None:
        readings = [judges.toy_judge.read(shot.frames) for shot in shots]
        characters = found_by_toy_judge(shots, readings, story)
        metrics |= _toy_judge_metrics(shots, readings, story, truth)
        details = _toy_judge_details(shots, readings, story, truth)
    if judges.finder is not None:
        characters = found_by(judges.finder, shots, story)
    if judges.embedder is not None:
        embeddings = consistency.embed_story(shots, story, characters.boxes, judges.embedder)
        metrics |= consistency.clip_measures(embeddings, story)
    details["characters_found"] = characters.share_found
    details["usual_and_border_jump"] = continuity.usual_and_border_jump(shots)
    details["shots"] = [
        {**seen, **_shot_details(filmed, shot.prompt), "characters": characters.told_of(index)}
        for index, (seen, filmed, shot) in enumerate(
            zip(details.get("shots", [{}] * len(shots)), shots, story.shots, strict=True)
        )
    ]
    return {"metrics": metrics, "details": details}


def _toy_judge_metrics(
    shots: Sequence[FilmedShot],
    readings: Sequence[ShotReading],
    story: StoryTruth,
    truth: Sequence[Pixels],
) -> dict[str, float | None]:
    hue_errors = hue.hue_errors_deg(readings, story)
    return {
        "figure_accuracy": accuracy.figure_accuracy(readings, story),
        "place_accuracy": accuracy.place_accuracy(readings, story),
        "scale_accuracy": accuracy.scale_accuracy(readings, story),
        "action_accuracy": accuracy.action_accuracy(readings, story),
        "hue_error_deg": median(hue_errors) if hue_errors else None,
        "copy_paste": copying.copy_paste(shots, truth),
        "retrieval_return_accuracy": retrieval.retrieval_return_accuracy(shots, story),
    }


def _toy_judge_details(
    shots: Sequence[FilmedShot],
    readings: Sequence[ShotReading],
    story: StoryTruth,
    truth: Sequence[Pixels],
) -> dict[str, Any]:
    by_chunk = drift.accuracy_by_chunk(shots, readings, story)
    return {
        "joint_accuracy": accuracy.joint_accuracy(readings, story),
        "light_accuracy": accuracy.light_accuracy(readings, story),
        "landmark_displacement": landmark_displacement(shots, readings, story),
        "flicker": continuity.flicker(shots, truth),
        "true_and_filmed_motion": continuity.true_and_filmed_motion(shots, truth),
        "accuracy_by_chunk": by_chunk,
        "actions_by_chunk": drift.actions_by_chunk(shots, readings, story),
        "hue_errors_deg": hue.hue_errors_deg(readings, story),
        "shots": [{"seen": _seen(reading)} for reading in readings],
    }


def _seen(reading: ShotReading) -> dict[str, Any]:
    return {
        "place": reading.place_in(),
        "light": reading.light_in(),
        "scale": reading.scale_in(),
        "figures": {
            kind: {
                "action": reading.action_of(kind),
                "body_hue_deg": round(figure.body_hue_deg, 1),
                "trim_hue_deg": round(figure.trim_hue_deg, 1),
            }
            for kind, figure in reading.figures_in().items()
        },
    }


def _shot_details(filmed: FilmedShot, prompt: str) -> dict[str, Any]:
    retrieved = [
        {"shot": c.shot, "frame": c.frame, "score": round(c.score, 4)} for c in filmed.cached
    ]
    return {"prompt": prompt, "retrieved": retrieved}
