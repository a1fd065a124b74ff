"""Does a place keep its layout? How far its landmarks have moved since an earlier shot there.

Prompts never mention where a landmark stands, so only the shot cache can preserve it. No model is
involved: windows of the earlier backdrop are searched for in the later one, to the left and right.
A frame has H x W pixels, a window is w wide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fw_model.evaluation.judges.toy_judge import ShotReading
from fw_model.evaluation.stories.truth import FilmedShot, ShotTruth, StoryTruth

_PIVOT_Y = 0.62  # the height that stays in place when a toy camera zooms in, in frame heights
_WINDOW, _STEP, _REACH = 0.3, 0.05, 0.25  # width, spacing and search range, frame widths
_MARGIN = 0.04  # around the box of a figure
_SEEN = 0.5  # least share of frames that show a pixel, and of known pixels in a window
_SEEN_IN_BOTH = 0.3
_FLAT = 5.0  # least deviation from the row's mean, levels of 255; a flatter window cannot be found
_TIE = 3e-3  # correlation that a pixel of shift must gain

Reals = NDArray[np.float32]


@dataclass(frozen=True)
class Backdrop:
    """Brightness [H, W] of a shot without its figures, and where it is known (1, else 0)."""

    luma: Reals
    known: Reals


def landmark_displacement(
    shots: Sequence[FilmedShot], readings: Sequence[ShotReading], story: StoryTruth
) -> float | None:
    """Return how far a place's landmarks stand from where its first shot has them.

    The mean over all windows, in frame widths of the wide view; None if no place is seen twice by a
    still camera.
    """
    gaps: list[float] = []
    first: dict[int, int] = {}
    for index, shot in enumerate(story.shots):
        if shot.camera != "still":
            continue
        before = first.setdefault(shot.place_index, index)
        if before != index:
            zoom = max(shot.zoom, story.shots[before].zoom)
            old, new = (
                _brought_nearer(backdrop(shots[i], readings[i]), story.shots[i], zoom)
                for i in (before, index)
            )
            gaps += [abs(shift) / zoom for shift in window_shifts(old, new)]
    return float(np.mean(gaps)) if gaps else None


def window_shifts(old: Backdrop, new: Backdrop) -> list[float]:
    """Return how far each window of `old` that is not flat has shifted in `new`.

    Shifts to the right are positive, in frame widths.
    """
    num_columns = old.luma.shape[1]
    width, reach = round(_WINDOW * num_columns), round(_REACH * num_columns)
    shifts = []
    for left in range(0, num_columns - width + 1, max(1, round(_STEP * num_columns))):
        window = _columns(old, left, width)
        if window.known.mean() < _SEEN:
            continue
        fits = {}
        for start in range(max(0, left - reach), min(num_columns - width, left + reach) + 1):
            fit = _correlation(window, _columns(new, start, width))
            if fit is not None:
                fits[start - left] = fit - _TIE * abs(start - left)
        if fits:
            shifts.append(max(fits, key=fits.__getitem__) / num_columns)
    return shifts


def backdrop(filmed: FilmedShot, reading: ShotReading) -> Backdrop:
    """Return the backdrop behind the figures that the toy judge sees: the median over frames."""
    luma = np.median([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in filmed.frames], axis=0)
    num_frames, height, width = filmed.frames.shape[:3]
    hidden = np.zeros((num_frames, height, width), bool)
    for frame, (x, y) in _boxed(reading, num_frames, height, width):
        hidden[frame, y, x] = True
    known = (1 - hidden.mean(axis=0)) > _SEEN
    return Backdrop(luma.astype(np.float32), known.astype(np.float32))


def _boxed(
    reading: ShotReading, num_frames: int, height: int, width: int
) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Yield each frame's columns and rows of each figure seen in the shot."""
    for kind in reading.figures_in():
        for frame in range(num_frames):
            x0, y0, x1, y1 = reading.box_of(kind, frame)
            columns = _slice(x0 - _MARGIN, x1 + _MARGIN, width)
            yield frame, (columns, _slice(y0 - _MARGIN, y1 + _MARGIN, height))


def _slice(start: float, end: float, size: int) -> slice:
    return slice(max(0, int(start * size)), int(np.ceil(end * size)))


def _brought_nearer(seen: Backdrop, shot: ShotTruth, zoom: float) -> Backdrop:
    """Enlarge a backdrop to what a nearer camera would see."""
    height, width = seen.luma.shape
    ratio = zoom / shot.zoom
    middle_x, middle_y = (width - 1) / 2, height * _PIVOT_Y - 0.5
    matrix = np.array(
        [[ratio, 0, middle_x * (1 - ratio)], [0, ratio, middle_y * (1 - ratio)]], np.float32
    )
    luma = cv2.warpAffine(seen.luma, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    known = cv2.warpAffine(seen.known, matrix, (width, height), flags=cv2.INTER_NEAREST)
    return Backdrop(np.asarray(luma, np.float32), np.asarray(known, np.float32))


def _columns(of: Backdrop, start: int, width: int) -> Backdrop:
    part = slice(start, start + width)
    return Backdrop(of.luma[:, part], of.known[:, part])


def _correlation(window: Backdrop, other: Backdrop) -> float | None:
    """Return how two windows [H, w] correlate in their deviations from each row's mean, -1..1.

    Sky and ground, which hardly change along a row, do not count. None if too little is known in
    both, or the window is flat.
    """
    known = window.known * other.known
    if known.mean() < _SEEN_IN_BOTH:
        return None
    first, second = (_from_row_means(part.luma, known) for part in (window, other))
    power, other_power = float((first**2).sum()), float((second**2).sum())
    noise = float(known.sum())  # of one level, so that a flat window matches nothing
    if power < _FLAT**2 * noise:
        return None
    return float((first * second).sum()) / float(np.sqrt(power * (other_power + noise)))


def _from_row_means(luma: Reals, known: Reals) -> Reals:
    """Return the deviation of each pixel from its row's mean, 0 where nothing is known."""
    means = (luma * known).sum(1, keepdims=True) / np.maximum(known.sum(1, keepdims=True), 1)
    deviation: Reals = (luma - means) * known
    return deviation
