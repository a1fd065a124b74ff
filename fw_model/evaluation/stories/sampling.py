"""Which frames represent a film when all would be too many."""

from __future__ import annotations

from collections.abc import Sequence

from fw_model.evaluation.stories.truth import FilmedShot, Pixels
from fw_model.media.keyframes import select_keyframe_indices


def sampled_frames(shots: Sequence[FilmedShot], per_shot: int) -> list[Pixels]:
    """Return `per_shot` evenly spaced frames [H, W, 3] of each shot, or all of a shorter shot."""
    return [
        shot.frames[index]
        for shot in shots
        for index in select_keyframe_indices(len(shot.frames), per_shot)
    ]
