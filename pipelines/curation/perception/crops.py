"""Crops of characters around their faces: references for the shot cache, pictures to compare."""

from __future__ import annotations

from fw_model.schemas.curated_rows import FaceRow
from pipelines.curation.perception.base import Picture

# Around the face, in widths and heights of it: hair above, shoulders on both sides and below.
_SIDE, _ABOVE, _BELOW = 1.0, 0.6, 1.6

Span = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


def head_and_shoulders(face: FaceRow, *, width: int, height: int) -> Span:
    """Return the part of a keyframe of this size that shows a face with hair and shoulders."""
    x0 = face["x"] - _SIDE * face["width"]
    x1 = face["x"] + (1 + _SIDE) * face["width"]
    y0 = face["y"] - _ABOVE * face["height"]
    y1 = face["y"] + (1 + _BELOW) * face["height"]
    return max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1)


def character_crop(keyframe: Picture, face: FaceRow) -> Picture:
    """Return the head and shoulders of a face in a keyframe [H, W, 3]."""
    height, width = keyframe.shape[:2]
    x0, y0, x1, y1 = head_and_shoulders(face, width=width, height=height)
    return keyframe[int(y0) : max(int(y0) + 1, round(y1)), int(x0) : max(int(x0) + 1, round(x1))]
