"""Does a shot show what its prompt asks for? Each metric is a share in 0..1 over a story."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fw_model.evaluation.judges.toy_judge import ShotReading
from fw_model.evaluation.stories.truth import ShotTruth, StoryTruth

Span = tuple[int, int | None]
Metric = Callable[[Sequence[ShotReading], StoryTruth], float]
WHOLE: Span = (0, None)


def shows_figures(reading: ShotReading, shot: ShotTruth, span: Span = WHOLE) -> bool:
    """Return whether frames [start, end) show exactly the figures asked for."""
    return set(reading.figures_in(*span)) == {figure.kind for figure in shot.figures}


def shows_place(reading: ShotReading, shot: ShotTruth, span: Span = WHOLE) -> bool:
    """Return whether frames [start, end) are in the place asked for."""
    return reading.place_in(*span) == shot.place


def shows_scale(reading: ShotReading, shot: ShotTruth, span: Span = WHOLE) -> bool:
    """Return whether frames [start, end) have the camera scale asked for."""
    return reading.scale_in(*span) == shot.scale


def acts(reading: ShotReading, shot: ShotTruth, span: Span = WHOLE) -> list[bool]:
    """Return for each requested figure whether it is in frames [start, end) and acts as asked."""
    seen = reading.figures_in(*span)
    return [f.kind in seen and reading.action_of(f.kind, *span) == f.action for f in shot.figures]


def _share_of(claims: Callable[[ShotReading, ShotTruth], Sequence[bool]]) -> Metric:
    """Return the metric that is the share of true claims over the shots of a story."""

    def share(readings: Sequence[ShotReading], story: StoryTruth) -> float:
        pairs = zip(readings, story.shots, strict=True)
        true = [claim for reading, shot in pairs for claim in claims(reading, shot)]
        return sum(true) / len(true)

    return share


figure_accuracy = _share_of(lambda reading, shot: [shows_figures(reading, shot)])
"""The share of shots that show exactly the kinds of figure asked for."""

place_accuracy = _share_of(lambda reading, shot: [shows_place(reading, shot)])
"""The share of shots in the kind of place asked for."""

light_accuracy = _share_of(lambda reading, shot: [reading.light_in() == shot.light])
"""The share of shots in the light asked for."""

scale_accuracy = _share_of(lambda reading, shot: [shows_scale(reading, shot)])
"""The share of shots with the camera scale asked for."""

action_accuracy = _share_of(acts)
"""The share of requested figures that are there and act as asked."""

joint_accuracy = _share_of(
    lambda reading, shot: [
        shows_figures(reading, shot)
        and shows_place(reading, shot)
        and shows_scale(reading, shot)
        and all(acts(reading, shot))
    ]
)
"""The share of shots whose figures, place, scale and actions are all correct."""
