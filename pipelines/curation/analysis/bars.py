"""Black bars of a decoded frame, to the pixel, and the crop that leaves them out.

Bars are dark, flat rows or columns at the edges. A shot is cropped by the bars that all of its
frames share, so a dark corner of one frame costs nothing. Knows nothing about cuts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from fw_model.schemas.curated_rows import CropRow
from pipelines.curation.analysis.frame_sampling import luma_plane
from pipelines.curation.detectors.borders import find_borders

MAX_LEVEL = 40  # of 255: black is 16 in TV range, and codecs add some
MAX_RANGE = 14  # levels within a row of a bar; at its border the codec rings
MIN_BAR = 0.015  # of the frame's side: thinner edges do not count as bars
MIN_PICTURE = 0.2  # of the frame's side: what is left between bars must be a picture
SAMPLES = 96  # pixels that are read of each row and column


@dataclass(frozen=True)
class Bars:
    """Pixels of black at the edges of a frame as stored, before rotation."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0

    def __bool__(self) -> bool:
        return any((self.top, self.bottom, self.left, self.right))

    def row(self) -> CropRow | None:
        """Return the bars as they are stored; None for none."""
        if not self:
            return None
        return {"top": self.top, "bottom": self.bottom, "left": self.left, "right": self.right}


NO_BARS = Bars()


def find_dark_bars(
    luma: NDArray[np.uint8],
) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Yield the number of each frame of small luma [B, h, w] with bars, and the picture inside."""
    borders = find_borders(luma)
    height, width = luma.shape[1:]
    depths = np.where(borders.levels <= MAX_LEVEL, borders.depths, 0)
    for number in np.flatnonzero(depths.any(1)):
        top, bottom, left, right = (int(depth) for depth in depths[number])
        if top + bottom < height and left + right < width:  # else it is black all over
            yield int(number), (slice(top, height - bottom), slice(left, width - right))


def find_bars(frame: VideoFrame) -> Bars | None:
    """Return the bars of a frame; None if it is black all over, and so says nothing of bars."""
    luma = luma_plane(frame)  # [height, width]
    height, width = luma.shape
    edges = (luma[0], luma[-1], luma[:, 0], luma[:, -1])
    if all(int(edge.max()) > MAX_LEVEL for edge in edges):
        return NO_BARS  # as in most frames: the rest need not be read
    columns = luma[:, :: max(1, width // SAMPLES)]
    if int(columns.max()) <= MAX_LEVEL:
        return None
    rows = luma[:: max(1, height // SAMPLES)]
    top, bottom = _edges(columns.min(1), columns.max(1))
    left, right = _edges(rows.min(0), rows.max(0))
    return Bars(top, bottom, left, right)


def _edges(low: NDArray[np.uint8], high: NDArray[np.uint8]) -> tuple[int, int]:
    """Return how many lines at the two ends are dark and flat, of lines' extremes [n]."""
    is_bar = (high <= MAX_LEVEL) & (high.astype(np.int16) - low <= MAX_RANGE)
    first, last = int(is_bar.argmin()), int(is_bar[::-1].argmin())
    size = len(is_bar)
    return (first if first >= MIN_BAR * size else 0), (last if last >= MIN_BAR * size else 0)


def shared_bars(found: Iterable[Bars | None], *, width: int, height: int) -> Bars:
    """Return the bars that all frames share, in even numbers of pixels; frames of None are passed
    over."""
    bars = [bar for bar in found if bar is not None]
    if not bars:
        return NO_BARS
    top, bottom = (_even(min(getattr(bar, side) for bar in bars)) for side in ("top", "bottom"))
    left, right = (_even(min(getattr(bar, side) for bar in bars)) for side in ("left", "right"))
    if height - top - bottom < MIN_PICTURE * height:
        top = bottom = 0
    if width - left - right < MIN_PICTURE * width:
        left = right = 0
    return Bars(top, bottom, left, right)


def _even(count: int) -> int:
    """Round up to an even number: chroma has half the resolution, and borders are blurred."""
    return count + count % 2


def crop(picture: NDArray[np.uint8], bars: Bars, *, width: int, height: int) -> NDArray[np.uint8]:
    """Return a picture [h, w, 3] of a frame of `width` x `height`, at any scale, without bars."""
    if not bars:
        return picture
    rows, columns = picture.shape[0] / height, picture.shape[1] / width
    top, bottom = -int(-bars.top * rows // 1), int((height - bars.bottom) * rows)
    left, right = -int(-bars.left * columns // 1), int((width - bars.right) * columns)
    return np.ascontiguousarray(picture[top:bottom, left:right])
