"""Small pictures from decoded frames, straight from the decoder's planes.

Scaling every frame of a video costs as much as a third of decoding it. The detector needs a
coarse grid only, so samples are read where they lie, a few in each cell, and averaged; only frames
that may become keyframes are really scaled.

B frames of a batch; k: samples of a cell to each axis. A call costs more than what it does at these
sizes, so one serves a batch.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from pipelines.curation.detectors.base import GRID_HEIGHT, GRID_WIDTH

BATCH_FRAMES = 32
LUMA_SAMPLES = 2  # to each axis of a cell; of chroma, coarser in most files, one is enough
_MOST_SIZES = 8
Places = NDArray[np.intp]
_PLANAR_8_BIT = frozenset(
    {"yuv420p", "yuv422p", "yuv444p", "yuv440p", "yuv411p", "yuv410p"}
    | {"yuvj420p", "yuvj422p", "yuvj444p", "yuvj440p", "yuva420p", "yuva422p", "yuva444p"}
)
_PLANAR_16_BIT = {
    f"yuv{layout}p{bits}le": bits - 8 for layout in (420, 422, 444) for bits in (9, 10, 12, 14, 16)
}

_PLANAR = _PLANAR_8_BIT | _PLANAR_16_BIT.keys()


class GridSampler:
    """Turns frames of any size and pixel format into uint8 planes, a batch at a time.

    `add` frames, at most BATCH_FRAMES of them, then `take` what they became.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        k = LUMA_SAMPLES
        self._luma = np.empty((BATCH_FRAMES, GRID_HEIGHT * k, GRID_WIDTH * k), np.uint8)
        self._chroma = np.empty((BATCH_FRAMES, 2, GRID_HEIGHT, GRID_WIDTH), np.uint8)
        self._places: dict[tuple[int, int, int, int], Places] = {}
        self.num_frames = 0

    def add(self, frame: VideoFrame) -> None:
        """Read a frame's samples; the frame is not needed any more."""
        name = frame.format.name
        shift = _PLANAR_16_BIT.get(name, 0)
        is_planar = name in _PLANAR
        planes = frame.planes if is_planar else self._small(frame).planes
        slot = self.num_frames
        self._read(planes[0], self._luma[slot], LUMA_SAMPLES, shift)
        self._read(planes[1], self._chroma[slot, 0], 1, shift)
        self._read(planes[2], self._chroma[slot, 1], 1, shift)
        self.num_frames += 1

    def take(self) -> NDArray[np.uint8]:
        """Return the planes of the frames since the last time, [B, 3, GRID_HEIGHT, GRID_WIDTH]:
        the mean of the samples in each cell."""
        count, self.num_frames = self.num_frames, 0
        planes = np.empty((count, 3, GRID_HEIGHT, GRID_WIDTH), np.uint8)
        # All frames, one below the other, are one picture to be made smaller.
        column = self._luma[:count].reshape(-1, GRID_WIDTH * LUMA_SAMPLES)
        size = GRID_WIDTH, count * GRID_HEIGHT
        cells = cv2.resize(column, size, interpolation=cv2.INTER_AREA)
        planes[:, 0] = cells.reshape(-1, GRID_HEIGHT, GRID_WIDTH)
        planes[:, 1:] = self._chroma[:count]
        return planes

    def _read(self, plane: Any, samples: NDArray[np.uint8], k: int, shift: int) -> None:
        """Read k x k samples of each cell of a plane, of which the upper 8 bits count."""
        values = np.frombuffer(plane, np.uint16 if shift else np.uint8)
        key = plane.width, plane.height, len(values) // plane.height, k
        places = self._places.get(key)
        if places is None:
            if len(self._places) >= _MOST_SIZES:
                self._places.clear()  # some files have another size for every frame
            places = self._places[key] = _places(*key)
        if shift:
            samples[:] = values[places] >> shift
        else:
            values.take(places, out=samples, mode="clip")  # all lie inside: no need to check

    def _small(self, frame: VideoFrame) -> VideoFrame:
        """Scale a frame whose samples do not lie in planes, so that each is a sample."""
        return self._reformatter.reformat(
            frame,
            width=GRID_WIDTH * LUMA_SAMPLES,
            height=GRID_HEIGHT * LUMA_SAMPLES,
            format="yuv444p",
            interpolation=Interpolation.AREA,
        )


def _places(width: int, height: int, line: int, k: int) -> Places:
    """Return where k x k samples of each cell lie in a plane, [GRID_HEIGHT * k, GRID_WIDTH * k]:
    nearest to the middles of their shares. `line` is the distance of rows in numbers."""
    rows = (2 * np.arange(GRID_HEIGHT * k) + 1) * height // (2 * GRID_HEIGHT * k)
    columns = (2 * np.arange(GRID_WIDTH * k) + 1) * width // (2 * GRID_WIDTH * k)
    return np.asarray(rows[:, None] * line + columns, np.intp)


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
