"""Does a character keep its hues? Prompts never mention them, so only the shot cache can."""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence

from fw_model.evaluation.judges.toy_judge import ShotReading, hue_gap_deg
from fw_model.evaluation.stories.truth import StoryTruth


def hue_errors_deg(readings: Sequence[ShotReading], story: StoryTruth) -> list[float]:
    """Return how far the body and hat of each character are from their mean hue in earlier shots.

    There are two numbers, in degrees from 0 to 180, each time a requested character is seen again.
    Characters that are not seen are left to `figure_accuracy`.
    """
    errors: list[float] = []
    earlier: dict[str, list[tuple[float, float]]] = {}
    for reading, shot in zip(readings, story.shots, strict=True):
        seen = reading.figures_in()
        for figure in shot.figures:
            if figure.kind not in seen:
                continue
            hues = (seen[figure.kind].body_hue_deg, seen[figure.kind].trim_hue_deg)
            before = earlier.setdefault(figure.kind, [])
            if before:
                errors += [
                    hue_gap_deg(hue, mean_hue_deg([old[part] for old in before]))
                    for part, hue in enumerate(hues)
                ]
            before.append(hues)
    return errors


def mean_hue_deg(hues_deg: Sequence[float]) -> float:
    """Return the mean of directions on the hue circle."""
    total = sum(cmath.rect(1.0, math.radians(hue)) for hue in hues_deg)
    return math.degrees(cmath.phase(total)) % 360.0
