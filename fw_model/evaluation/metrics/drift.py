"""Does a long shot degrade? How much of what was asked for is seen, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fw_model.evaluation.judges.toy_judge import ShotReading
from fw_model.evaluation.metrics.accuracy import Span, acts, shows_figures, shows_place, shows_scale
from fw_model.evaluation.stories.truth import FilmedShot, ShotTruth, StoryTruth

_WINDOW = 10  # chunks


def accuracy_by_chunk(
    shots: Sequence[FilmedShot], readings: Sequence[ShotReading], story: StoryTruth
) -> list[float]:
    """Return, for each chunk number, the share of correct figures, places and scales."""

    def right(reading: ShotReading, shot: ShotTruth, span: Span) -> list[bool]:
        return [
            shows_figures(reading, shot, span),
            shows_place(reading, shot, span),
            shows_scale(reading, shot, span),
        ]

    return _by_chunk(shots, readings, story, right)


def actions_by_chunk(
    shots: Sequence[FilmedShot], readings: Sequence[ShotReading], story: StoryTruth
) -> list[float]:
    """Return, for each chunk number, the share of figures that are there and act as asked."""
    return _by_chunk(shots, readings, story, acts)


def _by_chunk(
    shots: Sequence[FilmedShot],
    readings: Sequence[ShotReading],
    story: StoryTruth,
    right: Callable[[ShotReading, ShotTruth, Span], Sequence[bool]],
) -> list[float]:
    rights: dict[int, list[float]] = {}
    for filmed, reading, shot in zip(shots, readings, story.shots, strict=True):
        for chunk, span in enumerate(filmed.chunk_spans):
            if claims := right(reading, shot, span):
                rights.setdefault(chunk, []).append(float(np.mean(claims)))
    return [float(np.mean(rights[chunk])) for chunk in sorted(rights)]


def first_and_last(by_chunk: Sequence[float]) -> tuple[float, float] | None:
    """Return the accuracy of the first and last ten chunks, or of both halves if there are fewer.

    None for a single chunk.
    """
    window = min(_WINDOW, len(by_chunk) // 2)
    if window == 0:
        return None
    return float(np.mean(by_chunk[:window])), float(np.mean(by_chunk[-window:]))


def drift_ratio(by_chunk: Sequence[float]) -> float | None:
    """Return the accuracy of the last chunks over that of the first.

    1 if nothing drifts; None for a single chunk, or if the first are all wrong.
    """
    ends = first_and_last(by_chunk)
    return None if ends is None or ends[0] == 0 else ends[1] / ends[0]
