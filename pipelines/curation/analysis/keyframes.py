"""Keyframes of each shot, collected while the video is decoded once.

Which frames a shot holds is known only after it has ended, so candidates are kept at even
distances: densely for the frames that an open transition may still claim, ever more thinly for the
rest of a long shot. Memory is bounded whatever the length of the shot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


class _Numbered(Protocol):
    @property
    def frame(self) -> int: ...


Numbered = TypeVar("Numbered", bound=_Numbered)


@dataclass(frozen=True)
class Candidate:
    """A frame that may become a keyframe. `picture()`, uint8 [h, w, 3], is drawn when it does: most
    do not.
    """

    frame: int
    time_s: float
    picture: Callable[[], Picture]


class KeyframeHarvest:
    """Keeps candidates and hands out the best spread ones when a shot is closed."""

    def __init__(self, *, per_shot: int, every_frames: int, max_delay: int) -> None:
        self._per_shot = per_shot
        self._every_frames = max(1, every_frames)
        self._max_delay = max_delay
        self._max_settled = 8 * per_shot
        self._stride = 1  # of the candidates offered, every so many are kept in the long run
        self._candidates: list[Candidate] = []

    def wants(self, frame: int) -> bool:
        """Tell whether frame number `frame` is to be offered."""
        return frame % self._every_frames == 0 or not self._candidates

    def offer(self, candidate: Candidate) -> None:
        """Keep a candidate; thin out those that no open transition can reach any more."""
        self._candidates.append(candidate)
        horizon = candidate.frame - self._max_delay
        settled = self._thinned([c for c in self._candidates if c.frame < horizon])
        while len(settled) > self._max_settled:
            self._stride *= 2
            settled = self._thinned(settled)
        self._candidates = settled + [c for c in self._candidates if c.frame >= horizon]

    def _thinned(self, candidates: list[Candidate]) -> list[Candidate]:
        return [c for c in candidates if c.frame // self._every_frames % self._stride == 0]

    def close(self, *, start_frame: int, end_frame: int, next_frame: int) -> list[Candidate]:
        """Return the keyframes of the shot `[start_frame, end_frame)`, in order, and forget
        every candidate before `next_frame`."""
        inside = [c for c in self._candidates if start_frame <= c.frame < end_frame]
        self._candidates = [c for c in self._candidates if c.frame >= next_frame]
        self._stride = 1
        return spread_evenly(inside, self._per_shot, start=start_frame, end=end_frame)


def spread_evenly(
    pictures: Sequence[Numbered], number: int, *, start: int, end: int
) -> list[Numbered]:
    """Return up to `number` of the pictures of `[start, end)` that stand nearest to even places,
    in order."""
    chosen: dict[int, Numbered] = {}
    for i in range(number if pictures else 0):
        wanted = start + (i + 0.5) / number * (end - start)
        best = min(pictures, key=lambda picture: abs(picture.frame - wanted))
        chosen[best.frame] = best
    return [chosen[frame] for frame in sorted(chosen)]


def encode_jpeg(picture: Picture, quality: int) -> bytes:
    """Return a picture as JPEG; the same picture gives the same bytes."""
    done, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"a picture {picture.shape} cannot be written as JPEG")
    return jpeg.tobytes()


def miniature(picture: Picture) -> Picture:
    """Return what is left of a picture at 64x36, where likeness is measured."""
    if picture.shape[0] >= 144 and picture.shape[1] >= 256:
        picture = cv2.resize(picture, (256, 144), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.resize(picture, (64, 36), interpolation=cv2.INTER_AREA))


def fingerprint(mini: Picture) -> bytes:
    """Return the 256-bit difference hash of a miniature: near-equal pictures differ in few bits."""
    grey = cv2.cvtColor(mini, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (17, 16), interpolation=cv2.INTER_AREA).astype(np.int16)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes()


def colour_histogram(mini: Picture) -> NDArray[np.float32]:
    """Return which colours a miniature holds: a unit row [128], 8 hues x 4 saturations x 4 values.

    It holds square roots of shares, so that a product of two is the overlap of their colours.
    """
    hsv = cv2.cvtColor(mini, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, [8, 4, 4], [0, 180, 0, 256, 0, 256]).ravel()
    shares: NDArray[np.float32] = np.sqrt(counts / counts.sum(), dtype=np.float32)
    return shares


def text_area(picture: Picture) -> float:
    """Return the share of a picture that looks like lines of text, 0..1.

    Letters are short, strong, even strokes side by side; closed along the row they make long flat
    boxes that are well filled. A guess, meant for title cards and slides, not for reading.
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
    # Strokes of one row lie more than 8 pixels apart: 16 bits number those of most pictures.
    rows, columns = grey.shape
    labels = cv2.CV_16U if rows * (columns // 9 + 1) < 2**16 else cv2.CV_32S
    _, _, boxes, _ = cv2.connectedComponentsWithStats(lines, ltype=labels)
    _, _, width, height, area = boxes[1:].T.astype(np.int64)
    is_flat = (width >= 2.5 * height) & (height >= 5) & (height <= 0.15 * rows)
    is_text = is_flat & (area >= 0.5 * width * height)
    return min(1.0, float((width * height)[is_text].sum()) / grey.size)
