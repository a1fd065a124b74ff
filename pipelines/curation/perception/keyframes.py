"""Examines the keyframes of shots, and sums up for each shot what they show.

A picture that makes a perceiver fail costs its own results, never the run: the shot carries the
error. Knows nothing about Ray or storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from fw_model.errors import ConfigError
from fw_model.schemas.curated_rows import FaceRow, KeyframeRow, MeasuredShotRow, TextLineRow
from pipelines.curation.perception.base import Perception, Picture

SUBTITLE_START = 2 / 3  # of the picture's height; subtitles are below it
MAX_DETAIL = 200  # characters of an error that are kept
Result = TypeVar("Result")
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Seen:
    """What a picture shows; None for what was not looked for or could not be examined."""

    faces: list[FaceRow] | None = None
    text_lines: list[TextLineRow] | None = None
    nsfw: float | None = None
    errors: tuple[str, ...] = ()


def examine(picture: Picture, perception: Perception) -> Seen:
    """Show a picture [H, W, 3] to each perceiver."""
    errors: list[str] = []
    faces, text, nsfw = perception.faces, perception.text, perception.nsfw
    return Seen(
        _tried("faces", lambda: _faces(faces.find(picture)), errors) if faces else None,
        _tried("text", lambda: _lines(text.read(picture)), errors) if text else None,
        _tried("nsfw", lambda: _probability(nsfw.score(picture)), errors) if nsfw else None,
        tuple(errors),
    )


def record(shots: Sequence[MeasuredShotRow], seen: Sequence[Seen]) -> None:
    """Write what was seen into the rows of shots; `seen` has one entry per keyframe, in order."""
    entries = iter(seen)
    for shot in shots:
        own = [next(entries) for _ in shot["keyframes"]]
        for keyframe, entry in zip(shot["keyframes"], own, strict=True):
            keyframe["faces"] = entry.faces
            keyframe["text_lines"] = entry.text_lines
            keyframe["nsfw"] = entry.nsfw
        _sum_up(shot, [error for entry in own for error in entry.errors])


def check_perception(perception: Perception) -> None:
    """Examine a grey picture, before any video is touched; ConfigError if a perceiver fails."""
    errors = examine(np.full((36, 64, 3), 128, np.uint8), perception).errors
    if errors:
        raise ConfigError(
            f"A perceiver fails on a plain grey picture: {errors[0]}; correct curation.perception."
        )


def _sum_up(shot: MeasuredShotRow, errors: Sequence[str]) -> None:
    """Fill the columns of a shot from its keyframes: the highest value counts."""
    keyframes = shot["keyframes"]
    shot["num_faces"] = _highest(len(k["faces"]) for k in keyframes if k["faces"] is not None)
    shot["ocr_area"] = _highest(_text_areas(keyframes, below=0.0))
    shot["subtitle_area"] = _highest(_text_areas(keyframes, below=SUBTITLE_START))
    shot["nsfw"] = _highest(k["nsfw"] for k in keyframes if k["nsfw"] is not None)
    shot["perception_error"] = errors[0] if errors else None


def _text_areas(keyframes: Sequence[KeyframeRow], *, below: float) -> Iterator[float]:
    """Yield, for each keyframe that was read, the share of it that lines of text cover whose
    middle is below this share of its height."""
    for keyframe in keyframes:
        lines = keyframe["text_lines"]
        if lines is None:
            continue
        start_px = below * keyframe["height"]
        inside = [n["area_px"] for n in lines if n["y"] + n["height"] / 2 >= start_px]
        yield min(1.0, sum(inside) / (keyframe["width"] * keyframe["height"]))


def _highest(values: Iterator[Number]) -> Number | None:
    return max(values, default=None)


def _tried(name: str, look: Callable[[], Result], errors: list[str]) -> Result | None:
    try:
        return look()
    except Exception as error:  # noqa: BLE001  it may be any library's; the shot carries it
        detail = f"{name}: {type(error).__name__}: {error}"
        errors.append(detail[:MAX_DETAIL])
        return None


# A perceiver may be anyone's: a row that does not fit its schema would stop the whole commit.


def _faces(found: Sequence[FaceRow]) -> list[FaceRow]:
    return [
        {
            "x": float(face["x"]),
            "y": float(face["y"]),
            "width": float(face["width"]),
            "height": float(face["height"]),
            "score": float(face["score"]),
        }
        for face in found
    ]


def _lines(found: Sequence[TextLineRow]) -> list[TextLineRow]:
    return [
        {
            "text": str(line["text"]),
            "x": float(line["x"]),
            "y": float(line["y"]),
            "width": float(line["width"]),
            "height": float(line["height"]),
            "area_px": float(line["area_px"]),
            "score": float(line["score"]),
        }
        for line in found
    ]


def _probability(score: float) -> float:
    if not 0 <= score <= 1:
        raise ValueError(f"the score {score} is not a probability")
    return float(score)
