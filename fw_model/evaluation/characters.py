"""Where characters are in a picture: what the paper asks a multimodal model for.

The oracle knows the figures of toy films. For other films somebody else must tell: an endpoint, or
a plug-in; where nobody does, the measures of characters are not measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from fw_model.evaluation.oracle import ShotReading
from fw_model.evaluation.truth import Box, FilmedShot, Pixels, StoryTruth

CharacterBoxes = Mapping[tuple[int, str], Box]
"""By (shot, name): where that character is in the middle frame of the shot."""

_UNSEEN_BY_ORACLE = "the oracle does not see it"
_UNTOLD = "the finder says nothing of it"


@dataclass(frozen=True)
class Sightings:
    """What a finder says of a frame, by name: boxes, and why a character has none."""

    boxes: Mapping[str, Box] = field(default_factory=dict)
    not_found: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoryCharacters:
    """The same of a story, by (shot, name). Every character asked for is in one of the two."""

    boxes: Mapping[tuple[int, str], Box] = field(default_factory=dict)
    not_found: Mapping[tuple[int, str], str] = field(default_factory=dict)

    @property
    def share_found(self) -> float | None:
        """Share of the characters asked for that have a box; None where nobody looked."""
        count = len(self.boxes) + len(self.not_found)
        return len(self.boxes) / count if count else None

    def told_of(self, shot: int) -> dict[str, dict[str, Any]]:
        """Return {name: {"box": ...} or {"not_found": why}} of a shot, as plain JSON."""
        told: dict[str, dict[str, Any]] = {}
        for (index, name), box in self.boxes.items():
            if index == shot:
                told[name] = {"box": [round(x, 4) for x in box]}
        for (index, name), why in self.not_found.items():
            if index == shot:
                told[name] = {"not_found": why}
        return told


class CharacterFinder(Protocol):
    """Finds characters by name."""

    version: str
    """Changes when answers may: results that rest on another version are made again."""

    def find(self, frame: Pixels, names: Sequence[str]) -> Sightings:
        """Say where characters of these `names` are in a frame [H, W, 3].

        Boxes need not be valid: whoever asks checks them.
        """
        ...


def middle_frame(shot: FilmedShot) -> int:
    """Return the number of the frame that stands for the shot."""
    return len(shot.frames) // 2


def found_by_oracle(
    shots: Sequence[FilmedShot], readings: Sequence[ShotReading], story: StoryTruth
) -> StoryCharacters:
    """Return where the asked-for figures of a toy film are, of those that are seen at all."""
    boxes: dict[tuple[int, str], Box] = {}
    not_found: dict[tuple[int, str], str] = {}
    for index, (shot, reading) in enumerate(zip(shots, readings, strict=True)):
        seen = reading.figures_in()
        for figure in story.shots[index].figures:
            if figure.kind in seen:
                boxes[index, figure.kind] = reading.box_of(figure.kind, middle_frame(shot))
            else:
                not_found[index, figure.kind] = _UNSEEN_BY_ORACLE
    return StoryCharacters(boxes, not_found)


def found_by(
    finder: CharacterFinder, shots: Sequence[FilmedShot], story: StoryTruth
) -> StoryCharacters:
    """Return where `finder` sees the characters that each shot asks for.

    A box that is none counts as not found: a crop of the wrong place would be measured as if it
    were the character.
    """
    boxes: dict[tuple[int, str], Box] = {}
    not_found: dict[tuple[int, str], str] = {}
    for index, shot in enumerate(shots):
        names = [figure.kind for figure in story.shots[index].figures]
        told = finder.find(shot.frames[middle_frame(shot)], names) if names else Sightings()
        for name in names:
            if name not in told.boxes:
                not_found[index, name] = told.not_found.get(name, _UNTOLD)
            elif fault := fault_of_box(told.boxes[name]):
                not_found[index, name] = fault
            else:
                boxes[index, name] = told.boxes[name]
    return StoryCharacters(boxes, not_found)


def fault_of_box(box: Sequence[float]) -> str | None:
    """Return what is wrong with a box x0, y0, x1, y1 in fractions of the frame, None if nothing."""
    told = f"the box ({', '.join(f'{x:.4g}' for x in box)})"
    if len(box) != 4 or not all(map(math.isfinite, box)):
        return f"{told} is not four numbers"
    x0, y0, x1, y1 = box
    if min(box) < 0 or max(box) > 1:
        return f"{told} is not inside the frame"
    if x0 >= x1 or y0 >= y1:
        return f"{told} has no area"
    return None
