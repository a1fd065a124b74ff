"""Where characters are in a picture; the paper asks a multimodal model for it.

The toy judge knows the figures of toy films. Other films need an endpoint or a plug-in; without
one, the character metrics are not measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NotRequired, Protocol, TypedDict

from fw_model.evaluation.judges.toy_judge import ShotReading
from fw_model.evaluation.stories.truth import Box, FilmedShot, Pixels, StoryTruth
from fw_model.media.keyframes import select_keyframe_indices

Sighting = tuple[int, int, str]
"""Shot, frame of the shot, name of a character."""

CharacterBoxes = Mapping[Sighting, Box]

_MAX_FRAMES = 3  # per shot: if an endpoint finds the characters, each frame costs a request

_UNSEEN_BY_TOY_JUDGE = "the toy judge does not see it"
_NOT_REPORTED = "the finder does not report it"


class SightingRow(TypedDict):
    """A character in a frame, as plain JSON: its box, or why it has none."""

    frame: int
    box: NotRequired[list[float]]
    not_found: NotRequired[str]


@dataclass(frozen=True)
class Sightings:
    """What a finder reports for a frame, by name: boxes, and why a character has none."""

    boxes: Mapping[str, Box] = field(default_factory=dict)
    not_found: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoryCharacters:
    """The sightings in a story: each requested character of each frame has a box or a reason."""

    boxes: CharacterBoxes = field(default_factory=dict)
    not_found: Mapping[Sighting, str] = field(default_factory=dict)

    @property
    def share_found(self) -> float | None:
        """The share of requested characters that have a box; None without a finder."""
        count = len(self.boxes) + len(self.not_found)
        return len(self.boxes) / count if count else None

    def rows_of(self, shot: int) -> dict[str, list[SightingRow]]:
        """Return the rows of a shot by name."""
        rows: dict[str, list[SightingRow]] = {}
        for (index, frame, name), box in self.boxes.items():
            if index == shot:
                found: SightingRow = {"frame": frame, "box": [round(x, 4) for x in box]}
                rows.setdefault(name, []).append(found)
        for (index, frame, name), reason in self.not_found.items():
            if index == shot:
                rows.setdefault(name, []).append({"frame": frame, "not_found": reason})
        return rows


class CharacterFinder(Protocol):
    """Finds characters by name."""

    version: str
    """Changes when answers may change: results of another version are computed again."""

    def find(self, frame: Pixels, names: Sequence[str]) -> Sightings:
        """Return where the characters of these `names` are in a frame [H, W, 3].

        Boxes need not be valid: the caller checks them.
        """


def standing_frames(shot: FilmedShot) -> list[int]:
    """Return the frames that represent a shot: the middles of at most three of its chunks.

    A frame just after a chunk border would favour variants that start each chunk from nothing,
    because the first frame that a VAE decodes is the sharpest.
    """
    spans = shot.chunk_spans
    chosen = select_keyframe_indices(len(spans), _MAX_FRAMES)
    return [(spans[i][0] + spans[i][1]) // 2 for i in chosen]


def found_by_toy_judge(
    shots: Sequence[FilmedShot], readings: Sequence[ShotReading], story: StoryTruth
) -> StoryCharacters:
    """Return where the toy judge sees the figures that each shot asks for."""
    boxes: dict[Sighting, Box] = {}
    not_found: dict[Sighting, str] = {}
    for index, (shot, reading) in enumerate(zip(shots, readings, strict=True)):
        seen = reading.figures_in()
        for figure in story.shots[index].figures:
            for frame in standing_frames(shot):
                if figure.kind in seen:
                    boxes[index, frame, figure.kind] = reading.box_of(figure.kind, frame)
                else:
                    not_found[index, frame, figure.kind] = _UNSEEN_BY_TOY_JUDGE
    return StoryCharacters(boxes, not_found)


def found_by(
    finder: CharacterFinder, shots: Sequence[FilmedShot], story: StoryTruth
) -> StoryCharacters:
    """Return where `finder` sees the characters that each shot asks for.

    An invalid box counts as not found: its crop would not show the character.
    """
    boxes: dict[Sighting, Box] = {}
    not_found: dict[Sighting, str] = {}
    for index, shot in enumerate(shots):
        names = [figure.kind for figure in story.shots[index].figures]
        for frame in standing_frames(shot) if names else ():
            sightings = finder.find(shot.frames[frame], names)
            for name in names:
                box = sightings.boxes.get(name)
                if box is None:
                    not_found[index, frame, name] = sightings.not_found.get(name, _NOT_REPORTED)
                elif fault := fault_of_box(box):
                    not_found[index, frame, name] = fault
                else:
                    boxes[index, frame, name] = box
    return StoryCharacters(boxes, not_found)


def fault_of_box(box: Sequence[float]) -> str | None:
    """Return what is wrong with a box x0, y0, x1, y1 in fractions of the frame, None if nothing."""
    shown = f"the box ({', '.join(f'{x:.4g}' for x in box)})"
    if len(box) != 4 or not all(map(math.isfinite, box)):
        return f"{shown} is not four numbers"
    x0, y0, x1, y1 = box
    if min(box) < 0 or max(box) > 1:
        return f"{shown} is not inside the frame"
    if x0 >= x1 or y0 >= y1:
        return f"{shown} has no area"
    return None
