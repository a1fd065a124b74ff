"""Makes small pictures of decoded frames, straight from the decoder's planes.

Scaling every frame of a video costs a third as much as decoding it. The detector needs only a
coarse grid, so a few samples of each cell are read in place and averaged; only frames that may
become keyframes are really scaled. At these sizes a call costs more than its work, so one call
serves a batch.

B: frames in a batch; k: samples per cell and axis.
"""

from __future__ import annotations

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from pipelines.curation.detectors.base import GRID_HEIGHT, GRID_WIDTH

BATCH_FRAMES = 32
LUMA_SAMPLES = 2  # per cell and axis; one is enough for chroma, which is coarser in most files
_MAX_CACHED_SIZES = 8
Indices = NDArray[np.intp]
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

    `add` up to BATCH_FRAMES frames, then `take` their planes.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        k = LUMA_SAMPLES
        self._luma = np.empty((BATCH_FRAMES, GRID_HEIGHT * k, GRID_WIDTH * k), np.uint8)
        self._chroma = np.empty((BATCH_FRAMES, 2, GRID_HEIGHT, GRID_WIDTH), np.uint8)
        self._indices: dict[tuple[int, int, int, int], Indices] = {}
        self.num_frames = 0

    def add(self, frame: VideoFrame) -> None:
        """Read a frame's samples; the frame may be freed afterwards."""
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
        """Return the planes [B, 3, GRID_HEIGHT, GRID_WIDTH] of the frames added since the last
        call: the mean of the samples in each cell."""
        count, self.num_frames = self.num_frames, 0
        planes = np.empty((count, 3, GRID_HEIGHT, GRID_WIDTH), np.uint8)
        # All frames, stacked vertically, are scaled as one picture.
        column = self._luma[:count].reshape(-1, GRID_WIDTH * LUMA_SAMPLES)
        size = GRID_WIDTH, count * GRID_HEIGHT
        cells = cv2.resize(column, size, interpolation=cv2.INTER_AREA)
        planes[:, 0] = cells.reshape(-1, GRID_HEIGHT, GRID_WIDTH)
        planes[:, 1:] = self._chroma[:count]
        return planes

    def _read(self, plane: VideoPlane, samples: NDArray[np.uint8], k: int, shift: int) -> None:
        """Read k x k samples of each cell of a plane, keeping the upper 8 bits."""
        values = np.frombuffer(memoryview(plane), "<u2" if shift else "u1")
        key = plane.width, plane.height, len(values) // plane.height, k
        indices = self._indices.get(key)
        if indices is None:
            if len(self._indices) >= _MAX_CACHED_SIZES:
                self._indices.clear()  # in some files every frame has another size
            indices = self._indices[key] = _sample_indices(*key)
        if shift:
            samples[:] = values[indices] >> shift
        else:
            values.take(indices, out=samples, mode="clip")  # "clip" skips the bounds check

    def _small(self, frame: VideoFrame) -> VideoFrame:
        """Scale a frame of another layout to planes of exactly the samples."""
        return self._reformatter.reformat(
            frame,
            width=GRID_WIDTH * LUMA_SAMPLES,
            height=GRID_HEIGHT * LUMA_SAMPLES,
            format="yuv444p",
            interpolation=Interpolation.AREA,
        )


def _sample_indices(width: int, height: int, line: int, k: int) -> Indices:
    """Return the indices of k x k samples per cell in a plane, [GRID_HEIGHT * k, GRID_WIDTH * k].

    Each sample is nearest to the middle of its share. `line` is the number of values in a row.
    """
    rows = (2 * np.arange(GRID_HEIGHT * k) + 1) * height // (2 * GRID_HEIGHT * k)
    columns = (2 * np.arange(GRID_WIDTH * k) + 1) * width // (2 * GRID_WIDTH * k)
    return np.asarray(rows[:, None] * line + columns, np.intp)


def is_full_range(frame: VideoFrame) -> bool:
    """Return whether a frame's luma uses all levels, 0 to 255, instead of 16 to 235."""
    return frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG


def luma_plane(frame: VideoFrame, *, rows: Indices | None = None) -> NDArray[np.uint8]:
    """Return a frame's luma [height, width], the upper 8 bits of each value; only `rows` of it if
    given."""
    name = frame.format.name
    planar = frame if name in _PLANAR else frame.reformat(format="gray8", threads=1)
    plane = planar.planes[0]
    shift = _PLANAR_16_BIT.get(name, 0)
    values = np.frombuffer(memoryview(plane), "<u2" if shift else "u1")
    lines = values.reshape(plane.height, -1)[:, : plane.width]
    lines = lines if rows is None else lines[rows]
    return np.asarray(lines >> shift, np.uint8) if shift else lines


class Thumbnailer:
    """Scales frames to a bounded size and renders those that become keyframes as RGB pictures."""

    def __init__(self, max_side_px: int) -> None:
        self._max_side_px = max_side_px
        self._scaler, self._renderer = VideoReformatter(), VideoReformatter()

    def scaled(self, frame: VideoFrame, *, sample_aspect_ratio: float) -> VideoFrame:
        """Return the frame with square pixels, enlarged only for its aspect; planar formats are
        kept."""
        width, height = frame.width * sample_aspect_ratio, float(frame.height)
        scale = min(1.0, self._max_side_px / max(width, height))
        return self._scaler.reformat(
            frame,
            width=max(1, round(width * scale)),
            height=max(1, round(height * scale)),
            format=None if frame.format.name in _PLANAR else "rgb24",  # others may not be writable
            interpolation=Interpolation.BILINEAR,
        )

    def rendered(self, small: VideoFrame) -> NDArray[np.uint8]:
        """Return a scaled frame as uint8 [h, w, 3], as stored."""
        return np.asarray(self._renderer.reformat(small, format="rgb24").to_ndarray(), np.uint8)


def upright(picture: NDArray[np.uint8], rotation: int) -> NDArray[np.uint8]:
    """Return a picture [h, w, 3] turned upright; `rotation` is the frame's, in degrees."""
    # FFmpeg counts rotation counter-clockwise, and so does rot90.
    return np.ascontiguousarray(np.rot90(picture, round(rotation / 90) % 4))
