"""All metrics of one film, before any averaging."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from fw_model.embedders.base import Embedder
from fw_model.evaluation.judges.characters import (
    CharacterFinder,
    StoryCharacters,
    found_by,
    found_by_toy_judge,
)
from fw_model.evaluation.judges.toy_judge import ShotReading, ToyJudge
from fw_model.evaluation.metrics import (
    accuracy,
    consistency,
    continuity,
    copying,
    drift,
    flicker,
    hue,
    landmarks,
    retrieval,
)
from fw_model.evaluation.metrics.aesthetic import AestheticPredictor
from fw_model.evaluation.metrics.inception import InceptionJudge
from fw_model.evaluation.scoring.score_rows import (
    MetricPayload,
    SeenRow,
    ShotRow,
    StoryDetails,
    StoryScore,
)
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
"""The rows of the scorecard. `aesthetic` and `inception` need weights that are not packaged."""


@dataclass(frozen=True)
class Judges:
    """The models that judge a film; a metric without its judge is not measured.

    Without a `finder`, the toy judge finds the characters of toy films.
    """

    toy_judge: ToyJudge
    embedder: Embedder | None
    finder: CharacterFinder | None = None
    aesthetic: AestheticPredictor | None = None
    inception: InceptionJudge | None = None


def score_story(
    shots: Sequence[FilmedShot], story: StoryTruth, truth: Sequence[Pixels] | None, judges: Judges
) -> StoryScore:
    """Return the score of a film.

    `truth` holds the true frames of each shot, [F, H, W, 3], as long as the filmed ones. It is
    None for a written story, for which only the metrics without truth are measured.
    """
    metrics: dict[str, MetricPayload | None] = dict.fromkeys(METRICS)
    metrics["border_jump_ratio"] = continuity.border_jump_ratio(shots)
    if judges.aesthetic is not None:
        metrics["aesthetic"] = judges.aesthetic.score(shots)
    if judges.inception is not None:
        metrics["inception"] = judges.inception.payload(shots)
    details: StoryDetails = {}
    readings: list[ShotReading] = []
    characters = StoryCharacters()
    if story.is_toy and truth is not None:
        readings = [judges.toy_judge.read(shot.frames) for shot in shots]
        characters = found_by_toy_judge(shots, readings, story)
        hue_errors = hue.hue_errors_deg(readings, story)
        metrics |= {
            "figure_accuracy": accuracy.figure_accuracy(readings, story),
            "place_accuracy": accuracy.place_accuracy(readings, story),
            "scale_accuracy": accuracy.scale_accuracy(readings, story),
            "action_accuracy": accuracy.action_accuracy(readings, story),
            "hue_error_deg": median(hue_errors) if hue_errors else None,
            "copy_paste": copying.copy_paste(shots, truth),
            "retrieval_return_accuracy": retrieval.retrieval_return_accuracy(shots, story),
        }
        details = {
            "joint_accuracy": accuracy.joint_accuracy(readings, story),
            "light_accuracy": accuracy.light_accuracy(readings, story),
            "landmark_displacement": landmarks.landmark_displacement(shots, readings, story),
            "flicker": flicker.flicker(shots, truth),
            "true_and_filmed_motion": continuity.true_and_filmed_motion(shots, truth),
            "accuracy_by_chunk": drift.accuracy_by_chunk(shots, readings, story),
            "actions_by_chunk": drift.actions_by_chunk(shots, readings, story),
            "hue_errors_deg": hue_errors,
        }
    if judges.finder is not None:
        characters = found_by(judges.finder, shots, story)
    if judges.embedder is not None:
        embeddings = consistency.embed_story(shots, story, characters.boxes, judges.embedder)
        metrics |= consistency.clip_measures(embeddings, story)
    details["characters_found"] = characters.share_found
    details["usual_and_border_jump"] = continuity.usual_and_border_jump(shots)
    details["shots"] = [
        _shot_row(filmed, story.shots[index].prompt, characters, index)
        for index, filmed in enumerate(shots)
    ]
    for row, reading in zip(details["shots"], readings, strict=False):
        row["seen"] = _seen(reading)
    return {"metrics": metrics, "details": details}


def _shot_row(filmed: FilmedShot, prompt: str, characters: StoryCharacters, index: int) -> ShotRow:
    return {
        "prompt": prompt,
        "retrieved": [
            {"shot": c.shot, "frame": c.frame, "score": round(c.score, 4)} for c in filmed.cached
        ],
        "characters": characters.rows_of(index),
    }


def _seen(reading: ShotReading) -> SeenRow:
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
