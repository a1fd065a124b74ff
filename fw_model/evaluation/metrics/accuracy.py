"""Does a shot show what its prompt asks for? Each metric is a share in 0..1 over a story."""

from __future__ import annotations

from collections.abc import Sequence

from fw_model.evaluation.judges.toy_judge import ShotReading
from fw_model.evaluation.stories.truth import ShotTruth, StoryTruth

Span = tuple[int, int | None]
WHOLE: Span = (0, None)


def figure_accuracy(readings: Sequence[ShotReading], story: StoryTruth) -> float:
    """Return the share of shots that show exactly the kinds of figure asked for."""
    return _share([shows_figures(r, s) for r, s in _pairs(readings, story)])


def place_accuracy(readings: Sequence[ShotReading], story: StoryTruth) -> float:
    """Return the share of shots in the kind of place asked for."""
    return _share([shows_place(r, s) for r, s in _pairs(readings, story)])


def light_accuracy(readings: Sequence[ShotReading], story: StoryTruth) -> float:
    """Return the share of shots in the light asked for."""
    return _share([r.light_in() == s.light for r, s in _pairs(readings, story)])


def scale_accuracy(readings: Sequence[ShotReading], story: StoryTruth) -> float:
    """Return the share of shots with the camera scale asked for."""
    return _share([shows_scale(r, s) for r, s in _pairs(readings, story)])


def action_accuracy(readings: Sequence[ShotReading], story: StoryTruth) -> float:
    """Return the share of requested figures that are there and act as asked."""
    return _share([right for r, s in _pairs(readings, story) for right in acts(r, s)])


def joint_accuracy(readings: Sequence[ShotReading], story: StoryTruth) -> float:
    """Return the share of shots whose figures, place, scale and actions are all correct."""
    return _share(
        [
            shows_figures(r, s) and shows_place(r, s) and shows_scale(r, s) and all(acts(r, s))
            for r, s in _pairs(readings, story)
        ]
    )


def acts(reading: ShotReading, shot: ShotTruth, span: Span = WHOLE) -> list[bool]:
    """Return for each requested figure whether it is in frames [start, end) and acts as asked."""
    seen = reading.figures_in(*span)
    return [f.kind in seen and reading.action_of(f.kind, *span) == f.action for f in shot.figures]


def shows_figures(reading: ShotReading, shot: ShotTruth, span: Span = WHOLE) -> bool:
    """Return whether frames [start, end) show exactly the figures asked for."""
    return set(reading.figures_in(*span)) == {figure.kind for figure in shot.figures}


def shows_place(reading: ShotReading, shot: ShotTruth, span: Span = WHOLE) -> bool:
    """Return whether frames [start, end) are in the place asked for."""
    return reading.place_in(*span) == shot.place


def shows_scale(reading: ShotReading, shot: ShotTruth, span: Span = WHOLE) -> bool:
    """Return whether frames [start, end) have the camera scale asked for."""
    return reading.scale_in(*span) == shot.scale


def _pairs(
    readings: Sequence[ShotReading], story: StoryTruth
) -> list[tuple[ShotReading, ShotTruth]]:
    return list(zip(readings, story.shots, strict=True))


def _share(claims: Sequence[bool]) -> float:
    return sum(claims) / len(claims)
