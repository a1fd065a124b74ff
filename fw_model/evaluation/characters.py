"""Where characters are in a picture: what the paper asks a multimodal model for.

The oracle knows the figures of toy films. For other films somebody else must tell: an endpoint, or
a plug-in; where nobody does, the measures of characters are not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fw_model.evaluation.oracle import ShotReading
from fw_model.evaluation.truth import Box, FilmedShot, Pixels, StoryTruth

CharacterBoxes = Mapping[tuple[int, str], Box]
"""By (shot, name): where that character is in the middle frame of the shot."""


class CharacterFinder(Protocol):
    """Finds characters by name."""

    def find(self, frame: Pixels, names: Sequence[str]) -> Mapping[str, Box]:
        """Return the boxes of those `names` that are seen in a frame [H, W, 3]."""
        ...


def middle_frame(shot: FilmedShot) -> int:
    """Return the number of the frame that stands for the shot."""
    return len(shot.frames) // 2


def boxes_by_oracle(
    shots: Sequence[FilmedShot], readings: Sequence[ShotReading], story: StoryTruth
) -> dict[tuple[int, str], Box]:
    """Return where the asked-for figures of a toy film are, of those that are seen at all."""
    boxes: dict[tuple[int, str], Box] = {}
    for index, (shot, reading) in enumerate(zip(shots, readings, strict=True)):
        seen = reading.figures_in()
        for figure in story.shots[index].figures:
            if figure.kind in seen:
                boxes[index, figure.kind] = reading.box_of(figure.kind, middle_frame(shot))
    return boxes


def boxes_by_finder(
    shots: Sequence[FilmedShot], story: StoryTruth, finder: CharacterFinder
) -> dict[tuple[int, str], Box]:
    """Return where `finder` sees the characters that each shot asks for."""
    boxes: dict[tuple[int, str], Box] = {}
    for index, shot in enumerate(shots):
        names = [figure.kind for figure in story.shots[index].figures]
        found = finder.find(shot.frames[middle_frame(shot)], names) if names else {}
        boxes.update({(index, name): box for name, box in found.items() if name in names})
    return boxes
