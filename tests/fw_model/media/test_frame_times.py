"""One clock for the frames of a video, whatever its file says; worked out by hand."""

from array import array
from fractions import Fraction

import pytest

from fw_model.media.frame_times import FrameClock, TimeBreaks, packet_ticks
from pipelines.curation.analysis.video_stream import shown_fps

MS = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("container", "times", "expected"),
    [
        ("mpegts", [100, 140, 180], [100, 140, 180]),
        ("mpegts", [1000, 1040, 0, 40, 80], [1000, 1040, 1080, 1120, 1160]),  # it restarts
        ("mpegts", [0, 40, 3_600_000, 3_600_040], [0, 40, 80, 120]),  # it jumps
        ("mpegts", [0, 40, 5000, 5040], [0, 40, 5000, 5040]),  # frames are missing
        ("mov,mp4", [0, 40, 60_000], [0, 40, 60_000]),  # a picture that stands for a minute
        ("mov,mp4", [0, None, None, 120], [0, 40, 80, 120]),
        ("mov,mp4", [0, 40, 40, 120, 100, 160], [0, 40, 41, 120, 121, 160]),  # jitter
        ("mpegts", [0, 40, 90_000, 120, 160], [0, 40, 80, 120, 160]),  # one broken time
    ],
)
def test_times_increase_and_keep_what_is_true(container, times, expected):
    clock = FrameClock(container, MS, 25.0)
    assert [clock.ticks(time) for time in times] == expected


def test_avi_is_timed_by_the_order_of_decoding():
    clock = FrameClock("avi", Fraction(1, 25), 25.0)
    stamps = [(1, 2), (2, 3), (4, 4), (3, 5), (6, 6), (5, None)]
    assert [clock.ticks(pts, dts) for pts, dts in stamps] == [2, 3, 4, 5, 6, 7]


def test_packets_are_in_the_order_of_their_pts_between_two_breaks():
    stamps = [(0, -40), (120, 0), (40, 40), (80, 80), (0, -40), (80, 0), (40, 40)]
    clock, breaks = FrameClock("mpegts", MS, 25.0), TimeBreaks("mpegts", MS, 4.0)
    assert packet_ticks(stamps[:4], clock, breaks) == [0, 120, 40, 80]
    stamps = [(1000 + pts, 1000 + dts) for pts, dts in stamps[:4]] + stamps[4:]
    clock, breaks = FrameClock("mpegts", MS, 25.0), TimeBreaks("mpegts", MS, 25.0)
    assert packet_ticks(stamps, clock, breaks) == [1000, 1120, 1040, 1080, 1160, 1240, 1200]


@pytest.mark.parametrize(("claimed", "expected"), [(50.0, 25.0), (25.0, 25.0), (24.5, 24.5)])
def test_a_rate_that_the_times_contradict_is_corrected(claimed, expected):
    times = array("d", [number / 25 for number in range(10)])
    assert shown_fps(times, claimed) == pytest.approx(expected)
