"""Does the shot cache find the right place when a story returns to it (A-B-A)?"""

from __future__ import annotations

from collections.abc import Sequence

from fw_model.evaluation.stories.truth import FilmedShot, StoryTruth


def return_hits(shots: Sequence[FilmedShot], story: StoryTruth) -> list[bool]:
    """Return for each return to a place whether the best retrieved keyframe shows that place.

    A return is a shot in the place of an earlier shot, directly after a shot elsewhere. A return
    without keyframes does not count: its cache was switched off.
    """
    hits = []
    for index in returning_shots(story):
        found = [cached for cached in shots[index].cached if cached.shot >= 0]
        if found:
            best = story.shots[found[0].shot]
            hits.append(best.place_index == story.shots[index].place_index)
    return hits


def retrieval_return_accuracy(shots: Sequence[FilmedShot], story: StoryTruth) -> float | None:
    """Return the share of returns that found their place; None if there is no return."""
    hits = return_hits(shots, story)
    return sum(hits) / len(hits) if hits else None


def returning_shots(story: StoryTruth) -> list[int]:
    """Return the shots that return to a place after another one."""
    places = [shot.place_index for shot in story.shots]
    return [
        i
        for i in range(2, len(places))
        if places[i] != places[i - 1] and places[i] in places[: i - 1]
    ]
