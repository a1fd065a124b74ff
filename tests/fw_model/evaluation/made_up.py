"""Readings and stories made up by hand, and true toy films, for tests of measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.judges.toy_judge import ShotReading
from fw_model.evaluation.judges.toy_judge_net import Vocabulary
from fw_model.evaluation.stories.truth import FigureTruth, FilmedShot, Pixels, ShotTruth, StoryTruth
from pipelines.evaluation.suites import SuiteStory, toy_story

VOCABULARY = Vocabulary(
    kinds=("bear", "cat"),
    places=("beach", "city"),
    lights=("day", "night"),
    scales=("close", "wide"),
    actions=("jump", "sit"),
)


def asked(
    kinds: Sequence[str] = ("bear",),
    *,
    place: str = "beach",
    place_index: int = 0,
    scale: str = "wide",
    action: str = "jump",
    camera: str | None = None,
    zoom: float = 1.0,
) -> ShotTruth:
    """Return what a shot must show."""
    figures = tuple(FigureTruth(kind, action) for kind in kinds)
    return ShotTruth("a prompt", place, place_index, "day", scale, figures, camera, zoom)


def story(*shots: ShotTruth) -> StoryTruth:
    """Return a story of these shots."""
    return StoryTruth(7, shots)


def seen(
    kinds: Sequence[str] = ("bear",),
    *,
    place: str = "beach",
    scale: str = "wide",
    action: str = "jump",
    hues_deg: Mapping[str, tuple[float, float]] | None = None,
    num_frames: int = 4,
) -> ShotReading:
    """Return the reading of a shot that shows just this; hues are (body, trim)."""
    hues = {kind: (hues_deg or {}).get(kind, (10.0, 200.0)) for kind in VOCABULARY.kinds}
    angles = np.radians([hues[kind] for kind in VOCABULARY.kinds])  # [K, 2]
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=-1)  # [K, body or trim, 2]
    presence = [0.9 if kind in kinds else 0.1 for kind in VOCABULARY.kinds]
    return ShotReading(
        vocabulary=VOCABULARY,
        place=_rows(_one_of(VOCABULARY.places, place), num_frames),
        light=_rows(_one_of(VOCABULARY.lights, "day"), num_frames),
        scale=_rows(_one_of(VOCABULARY.scales, scale), num_frames),
        presence=_rows(presence, num_frames),
        body_hue=_rows(vectors[:, 0], num_frames),
        trim_hue=_rows(vectors[:, 1], num_frames),
        boxes=_rows([[0.25, 0.25, 0.75, 0.75]] * 2, num_frames),
        actions=_rows(_rows(_one_of(VOCABULARY.actions, action), 2), num_frames),
    )


def toy(seed: int = 5, *, num_shots: int = 5) -> SuiteStory:
    """Return a toy story."""
    return toy_story(seed, EvaluationConfig(shots_per_story=num_shots))


def true_frames(toys: SuiteStory, num_frames: int = 21) -> list[Pixels]:
    """Return the true frames of each shot at 64x64."""
    return toys.render_truth([num_frames] * len(toys.truth.shots), 64, 64, 12.0)


def filmed(frames: Sequence[Pixels], starts: tuple[int, ...] = (0, 9)) -> list[FilmedShot]:
    """Return frames as filmed shots whose chunks begin at `starts`."""
    return [FilmedShot(f, starts) for f in frames]


def _one_of(words: Sequence[str], chosen: str) -> list[float]:
    return [0.8 if word == chosen else 0.2 for word in words]


def _rows(value: object, count: int) -> np.ndarray:
    return np.stack([np.asarray(value, np.float32)] * count)
