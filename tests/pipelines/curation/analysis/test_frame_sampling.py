"""Samples read from a decoder's planes are what scaling the whole picture gives."""

import av
import numpy as np
import pytest

from pipelines.curation.analysis.frame_sampling import BATCH_FRAMES, GridSampler
from pipelines.curation.detectors.base import GRID_HEIGHT, GRID_WIDTH

FORMATS = [
    "yuv420p", "yuv444p", "yuv411p", "yuvj422p", "yuva420p", "yuv420p10le", "yuv444p16le",
    "rgb24", "gray", "nv12", "yuv420p10be",
]  # fmt: skip


def ramps(width, height):
    """A picture [H, W, 3] whose colours change slowly, so that a few samples tell a cell's mean."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [40 + 150 * x / width, 60 + 120 * y / height, 200 - 100 * x / width]
    return np.stack(planes, axis=-1).astype(np.uint8)


def decoded(width, height, pixel_format):
    frame = av.VideoFrame.from_ndarray(ramps(width, height), format="rgb24")
    if pixel_format == "yuv444p16le":  # FFmpeg's own conversion gives other numbers each time
        planes = frame.reformat(format="yuv444p").to_ndarray().astype(np.uint16) << 8
        return av.VideoFrame.from_ndarray(planes.transpose(1, 2, 0), format=pixel_format)
    return frame.reformat(format=pixel_format)


def scaled(frame):
    """The planes [3, H, W] of the whole picture, area by area."""
    small = frame.reformat(
        width=GRID_WIDTH, height=GRID_HEIGHT, format="yuv444p", interpolation="AREA"
    )
    return small.to_ndarray().astype(int)


@pytest.mark.parametrize("pixel_format", FORMATS)
@pytest.mark.parametrize("size", [(640, 360), (130, 98), (67, 1080)])
def test_samples_are_near_the_means_of_their_cells(pixel_format, size):
    frame = decoded(*size, pixel_format)
    sampler = GridSampler()
    sampler.add(frame)
    planes = sampler.take()
    assert planes.shape == (1, 3, GRID_HEIGHT, GRID_WIDTH)
    levels = 24 if pixel_format == "yuvj422p" else 6  # full range: scaling turns it into limited
    assert np.abs(planes[0].astype(int) - scaled(frame)).max() <= levels


def test_frames_of_any_size_and_format_share_a_batch_and_do_not_touch_each_other():
    frames = [decoded(640, 360, "yuv420p"), decoded(1, 1, "gray"), decoded(64, 48, "yuv444p10le")]
    frames += [decoded(20 + n, 30, "yuv420p") for n in range(BATCH_FRAMES - 3)]
    together, alone = GridSampler(), GridSampler()
    for frame in frames:
        together.add(frame)
    assert together.num_frames == BATCH_FRAMES
    planes = together.take()
    assert together.num_frames == 0
    for frame, sampled in zip(frames, planes, strict=True):
        alone.add(frame)
        np.testing.assert_array_equal(alone.take()[0], sampled)
