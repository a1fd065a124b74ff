"""Small pictures from decoded frames, straight from the decoder's planes.

Scaling every frame of a video costs as much as a third of decoding it. The detector needs a
coarse grid only, so samples are read where they lie, a few in each cell, and averaged; only frames
that may become keyframes are really scaled.

H, W: grid rows and columns; k: samples per cell and axis. OpenCV does in one call what takes NumPy
five: at these sizes calls are what costs.
"""

from __future__ import annotations

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from pipelines.detectors.base import GRID_HEIGHT, GRID_WIDTH

SAMPLES_PER_CELL = 2
_PLANAR_8_BIT = frozenset(
    {"yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p"}
    | {"yuvj420p", "yuvj422p", "yuvj444p", "yuvj440p", "yuva420p", "yuva422p", "yuva444p"}
)
_PLANAR_16_BIT = {
    f"yuv{layout}p{bits}le": bits - 8 for layout in (420, 422, 444) for bits in (9, 10, 12, 14, 16)
}

_PLANAR = _PLANAR_8_BIT | _PLANAR_16_BIT.keys()


class GridSampler:
    """Turns frames of any size and pixel format into uint8 [3, GRID_HEIGHT, GRID_WIDTH]."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def sample(self, frame: VideoFrame) -> NDArray[np.uint8]:
        name = frame.format.name
        if name in _PLANAR_8_BIT:
            planes = [_plane(frame, i, np.uint8) for i in range(3)]
            return np.stack([_cells(p) for p in planes])
        if name in _PLANAR_16_BIT:
            planes = [_plane(frame, i, np.uint16) for i in range(3)]
            shift = _PLANAR_16_BIT[name]
            return np.stack([_cells(p) >> shift for p in planes]).astype(np.uint8)
        small = self._reformatter.reformat(
            frame,
            width=GRID_WIDTH,
            height=GRID_HEIGHT,
            format="yuv444p",
            interpolation=Interpolation.AREA,
        )
        return np.stack([_plane(small, i, np.uint8) for i in range(3)])


def _plane(frame: VideoFrame, index: int, dtype: type[np.unsignedinteger]) -> NDArray:
    plane = frame.planes[index]
    rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)
    return rows[:, : plane.width]


def _cells(plane: NDArray) -> NDArray:
    """Return the mean of the samples in each cell of a plane [h, w]: [H, W]."""
    k = SAMPLES_PER_CELL
    # Exact: the sample nearest to the middle of its share of the cell.
    samples = cv2.resize(
        plane, (GRID_WIDTH * k, GRID_HEIGHT * k), interpolation=cv2.INTER_NEAREST_EXACT
    )
    return cv2.resize(samples, (GRID_WIDTH, GRID_HEIGHT), interpolation=cv2.INTER_AREA)


class Thumbnailer:
    """Scales frames to a bounded size and, of those that become keyframes, makes RGB pictures."""

    def __init__(self, max_side_px: int) -> None:
        self._max_side_px = max_side_px
        self._scaler, self._painter = VideoReformatter(), VideoReformatter()

    def scaled(self, frame: VideoFrame, *, sample_aspect_ratio: float) -> VideoFrame:
        """Return the frame with square pixels, never enlarged but by aspect; planar formats stay
        what they are."""
        width, height = frame.width * sample_aspect_ratio, float(frame.height)
        scale = min(1.0, self._max_side_px / max(width, height))
        return self._scaler.reformat(
            frame,
            width=max(1, round(width * scale)),
            height=max(1, round(height * scale)),
            format=None if frame.format.name in _PLANAR else "rgb24",  # not all can be written
            interpolation=Interpolation.BILINEAR,
        )

    def upright(self, small: VideoFrame, *, rotation: int) -> NDArray[np.uint8]:
        """Return a scaled frame as uint8 [h, w, 3], turned upright."""
        picture = self._painter.reformat(small, format="rgb24").to_ndarray()
        # FFmpeg counts rotation counter-clockwise, and so does rot90.
        return np.ascontiguousarray(np.rot90(picture, round(rotation / 90) % 4))
