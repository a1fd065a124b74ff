"""The score of a story as plain JSON, which crosses Ray and is kept in the story's file.

A pair is a tuple when it is made and a list when it is read from a file, so it is a sequence here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

from fw_model.evaluation.judges.characters import SightingRow
from fw_model.evaluation.metrics.inception import InceptionSums

MetricPayload = float | InceptionSums
"""What the aggregate of a metric reads: a number, except for `inception`."""


class SeenFigureRow(TypedDict):
    """What the toy judge sees of a figure."""

    action: str
    body_hue_deg: float
    trim_hue_deg: float


class SeenRow(TypedDict):
    """What the toy judge sees in a shot; figures by kind."""

    place: str
    light: str
    scale: str
    figures: dict[str, SeenFigureRow]


class RetrievedRow(TypedDict):
    """A keyframe that the shot cache gave to a shot."""

    shot: int
    frame: int
    score: float


class ShotRow(TypedDict):
    """What was asked of a shot, retrieved for it and seen in it; characters by name."""

    seen: NotRequired[SeenRow]
    prompt: str
    retrieved: list[RetrievedRow]
    characters: dict[str, list[SightingRow]]


class StoryDetails(TypedDict, total=False):
    """Values without a row in the scorecard's table. Only toy films have all of them."""

    joint_accuracy: float
    light_accuracy: float
    landmark_displacement: float | None
    flicker: float | None
    true_and_filmed_motion: Sequence[float] | None
    accuracy_by_chunk: list[float]
    actions_by_chunk: list[float]
    hue_errors_deg: list[float]
    characters_found: float | None
    usual_and_border_jump: Sequence[float] | None
    shots: list[ShotRow]


class StoryScore(TypedDict):
    """The score of one film: a payload for each of METRICS, None where not measured."""

    metrics: dict[str, MetricPayload | None]
    details: StoryDetails
