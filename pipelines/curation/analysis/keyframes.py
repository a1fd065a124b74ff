"""Selects the keyframes of each shot during one pass over the video, and measures pictures.

A shot's frames are known only after it has ended, so candidates are kept at even distances: densely
where an open transition may still start, more and more thinly in the rest of a long shot. Memory is
bounded however long the shot is. Knows nothing about decoding or storage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.curation.analysis.bars import NO_BARS, Bars

Picture = NDArray[np.uint8]


class _HasFrame(Protocol):
    @property
    def frame(self) -> int: ...


Framed = TypeVar("Framed", bound=_HasFrame)


@dataclass(frozen=True)
class Candidate:
    """A frame that may become a keyframe. `picture(bars)` renders it without bars as uint8
    [h, w, 3]; most candidates never need that. `bars` are its own, None if it is all black.
    """

    frame: int
    time_s: float
    picture: Callable[[Bars], Picture]
    bars: Bars | None = NO_BARS


class KeyframeSelector:
    """Keeps candidates and returns the most evenly spread ones when a shot closes."""

    def __init__(self, *, per_shot: int, every_frames: int, max_delay: int) -> None:
        self._per_shot = per_shot
        self._every_frames = max(1, every_frames)
        self._max_delay = max_delay
        self._max_settled = 8 * per_shot
        self._stride = 1  # one of this many candidates is kept in the long run
        self._candidates: list[Candidate] = []

    def wants(self, frame: int) -> bool:
        """Return whether frame number `frame` should be offered."""
        return frame % self._every_frames == 0 or not self._candidates

    def offer(self, candidate: Candidate) -> None:
        """Keep a candidate; thin out those that no open transition can reach."""
        self._candidates.append(candidate)
        horizon = candidate.frame - self._max_delay
        settled = self._thinned([c for c in self._candidates if c.frame < horizon])
        while len(settled) > self._max_settled:
            self._stride *= 2
            settled = self._thinned(settled)
        self._candidates = settled + [c for c in self._candidates if c.frame >= horizon]

    def _thinned(self, candidates: list[Candidate]) -> list[Candidate]:
        return [c for c in candidates if c.frame // self._every_frames % self._stride == 0]

    def select(
        self, *, start_frame: int, end_frame: int, next_frame: int
    ) -> tuple[list[Candidate], list[Candidate]]:
        """Return the keyframes of the shot `[start_frame, end_frame)`, in order, and all of its
        candidates; drop every candidate before `next_frame`."""
        inside = [c for c in self._candidates if start_frame <= c.frame < end_frame]
        self._candidates = [c for c in self._candidates if c.frame >= next_frame]
        self._stride = 1
        return spread_evenly(inside, self._per_shot, start=start_frame, end=end_frame), inside


def spread_evenly(pictures: Sequence[Framed], count: int, *, start: int, end: int) -> list[Framed]:
    """Return up to `count` of the pictures of `[start, end)`, in order: those nearest to evenly
    spread frames."""
    chosen: dict[int, Framed] = {}
    for i in range(count if pictures else 0):
        wanted = start + (i + 0.5) / count * (end - start)
        best = min(pictures, key=lambda picture: abs(picture.frame - wanted))
        chosen[best.frame] = best
    return [chosen[frame] for frame in sorted(chosen)]


def encode_jpeg(picture: Picture, quality: int) -> bytes:
    """Return a picture as JPEG; equal pictures give equal bytes."""
    ok, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not ok:
        raise ValueError(f"cannot encode a picture of shape {picture.shape} as JPEG")
    return jpeg.tobytes()


def miniature(picture: Picture) -> Picture:
    """Return a picture at 64x36, the size at which similarity is measured."""
    if picture.shape[0] >= 144 and picture.shape[1] >= 256:
        smaller = cv2.resize(picture, (256, 144), interpolation=cv2.INTER_LINEAR)
        picture = np.asarray(smaller, np.uint8)
    return np.asarray(cv2.resize(picture, (64, 36), interpolation=cv2.INTER_AREA), np.uint8)


def fingerprint(mini: Picture) -> bytes:
    """Return the 256-bit difference hash of a miniature: near-equal pictures differ in few bits."""
    grey = cv2.cvtColor(mini, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes()


def colour_histogram(mini: Picture) -> NDArray[np.float32]:
    """Return the colours of a miniature as a unit row [128]: 8 hues x 4 saturations x 4 values.

    The entries are square roots of shares, so the dot product of two rows is their colour overlap.
    """
    hsv = cv2.cvtColor(mini, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, [8, 4, 4], [0, 180, 0, 256, 0, 256]).ravel()
    shares: NDArray[np.float32] = np.sqrt(counts / counts.sum(), dtype=np.float32)
    return shares


def text_area(picture: Picture) -> float:
    """Return the share of a picture that looks like lines of text, 0..1.

    Letters are short, strong, even strokes side by side; joined along the row they make long, flat,
    well filled boxes. A heuristic for title cards and slides.
    """
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    if min(grey.shape) < 24:
        return 0.0
    strokes = cv2.morphologyEx(
        grey, cv2.MORPH_GRADIENT, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    )
    _, strong = cv2.threshold(strokes, 80, 255, cv2.THRESH_BINARY)
    lines = cv2.morphologyEx(
        strong, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_RECT, (9, 1))
    )
    # Strokes of one row are more than 8 pixels apart: 16 bits number those of most pictures.
    rows, columns = grey.shape
    labels = cv2.CV_16U if rows * (columns // 9 + 1) < 2**16 else cv2.CV_32S
    _, _, boxes, _ = cv2.connectedComponentsWithStats(lines, ltype=labels)
    _, _, width, height, area = boxes[1:].T.astype(np.int64)
    is_flat = (width >= 2.5 * height) & (height >= 5) & (height <= 0.15 * rows)
    is_text = is_flat & (area >= 0.5 * width * height)
    return min(1.0, float((width * height)[is_text].sum()) / grey.size)
