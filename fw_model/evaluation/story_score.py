"""All measures of one film: what goes into a story's file, before any averaging."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fw_model.embedders.base import Embedder
from fw_model.evaluation import accuracy, consistency, continuity, copying, drift, hue, retrieval
from fw_model.evaluation.oracle import Oracle
from fw_model.evaluation.truth import FilmedShot, Pixels, StoryTruth

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
"""The scorecard's columns. `aesthetic` and `inception` need weights that are not packaged."""


def score_story(
    shots: Sequence[FilmedShot],
    story: StoryTruth,
    truth: Sequence[Pixels],
    *,
    oracle: Oracle,
    embedder: Embedder,
) -> dict[str, Any]:
    """Return {"metrics": {metric: number or None}, "details": ...} of a film, as plain JSON.

    `truth` holds the true frames of each shot, [F, H, W, 3], as long as the filmed ones.
    """
    readings = [oracle.read(shot.frames) for shot in shots]
    embeddings = consistency.embed_story(shots, readings, story, embedder)
    hue_errors = hue.hue_errors_deg(readings, story)
    by_chunk = drift.accuracy_by_chunk(shots, readings, story)
    metrics = {
        "figure_accuracy": accuracy.figure_accuracy(readings, story),
        "place_accuracy": accuracy.place_accuracy(readings, story),
        "scale_accuracy": accuracy.scale_accuracy(readings, story),
        "action_accuracy": accuracy.action_accuracy(readings, story),
        "hue_error_deg": sum(hue_errors) / len(hue_errors) if hue_errors else None,
        "border_jump_ratio": continuity.border_jump_ratio(shots),
        "character_consistency": consistency.character_consistency(embeddings),
        "overall_consistency": consistency.overall_consistency(embeddings, story),
        "character_alignment": consistency.character_alignment(embeddings),
        "overall_alignment": consistency.overall_alignment(embeddings),
        "aesthetic": None,
        "inception": None,
        "copy_paste": copying.copy_paste(shots, truth),
        "retrieval_return_accuracy": retrieval.retrieval_return_accuracy(shots, story),
    }
    details = {
        "light_accuracy": accuracy.light_accuracy(readings, story),
        "flicker": continuity.flicker(shots, truth),
        "drift_ratio": drift.drift_ratio(by_chunk),
        "accuracy_by_chunk": by_chunk,
        "hue_errors_deg": hue_errors,
        "shots": [
            {
                "prompt": shot.prompt,
                "seen": {
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
                },
                "retrieved": [
                    {"shot": c.shot, "frame": c.frame, "score": round(c.score, 4)}
                    for c in filmed.cached
                ],
            }
            for filmed, reading, shot in zip(shots, readings, story.shots, strict=True)
        ],
    }
    return {"metrics": metrics, "details": details}
