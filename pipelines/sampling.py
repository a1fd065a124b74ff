"""Small pictures from decoded frames, straight from the decoder's planes.

Scaling every frame of a video costs as much as a third of decoding it. The detector needs a
coarse grid only, so samples are read where they lie, a few in each cell, and averaged; only frames
that may become keyframes are really scaled.

H, W: grid rows and columns; k: samples per cell and axis.
"""

from __future__ import annotations

from functools import lru_cache

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


class GridSampler:
    """Turns frames of any size and pixel format into uint8 [3, GRID_HEIGHT, GRID_WIDTH]."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def sample(self, frame: VideoFrame) -> NDArray[np.uint8]:
        name = frame.format.name
        if name in _PLANAR_8_BIT:
            planes = [_plane(frame, i, np.uint8) for i in range(3)]
            return np.stack([_cells(p) for p in planes]).astype(np.uint8)
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


@lru_cache(maxsize=64)
def _positions(size: int, cells: int) -> NDArray[np.intp]:
    count = cells * SAMPLES_PER_CELL
    return ((np.arange(count) + 0.5) * size / count).astype(np.intp)


def _cells(plane: NDArray) -> NDArray[np.uint32]:
    """Return the mean of the samples in each cell of a plane [h, w]: [H, W]."""
    rows = _positions(plane.shape[0], GRID_HEIGHT)
    columns = _positions(plane.shape[1], GRID_WIDTH)
    samples = plane[rows][:, columns].astype(np.uint32)  # [H*k, W*k]
    k = SAMPLES_PER_CELL
    total = samples[:, 0::k] + samples[:, 1::k]  # [H*k, W]
    return (total[0::k] + total[1::k]) // (k * k)  # [H, W]


class Thumbnailer:
    """Scales frames to upright RGB pictures of bounded size, for keyframes."""

    def __init__(self, max_side_px: int) -> None:
        self._max_side_px = max_side_px
        self._reformatter = VideoReformatter()

    def picture(
        self, frame: VideoFrame, *, sample_aspect_ratio: float, rotation: int
    ) -> NDArray[np.uint8]:
        """Return uint8 [h, w, 3]: square pixels, turned upright, never enlarged but by aspect."""
        width, height = frame.width * sample_aspect_ratio, float(frame.height)
        scale = min(1.0, self._max_side_px / max(width, height))
        small = self._reformatter.reformat(
            frame,
            width=max(1, round(width * scale)),
            height=max(1, round(height * scale)),
            format="rgb24",
            interpolation=Interpolation.BILINEAR,
        )
        picture = small.to_ndarray()
        # FFmpeg counts rotation counter-clockwise, and so does rot90.
        return np.ascontiguousarray(np.rot90(picture, round(rotation / 90) % 4))
