"""When each frame of a video is shown: one clock that never stops or goes back.

Times in files may restart (a recording that was resumed), jump (an antenna lost its signal), be
missing, or be in the order of decoding (AVI stores no times at all). Knows nothing about decoding:
times come as a demuxer gives them, in ticks of the stream's time base.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

JUMPING_FORMATS = frozenset({"mpegts", "mpeg", "ogg"})
"""Containers whose times may jump ahead although no frame is missing (FFmpeg: TS_DISCONT)."""
LONGEST_GAP_S = 10.0  # in those containers; FFmpeg takes a longer gap for a jump, too
RESTART_S = 0.2  # and at least RESTART_FRAMES: less is jitter, which does not move later frames
RESTART_FRAMES = 5
LEAST_STEP_S = 0.001  # between frames whose times stand still


class FrameClock:
    """Turns the times of frames in presentation order into times that always increase.

    A time that goes back by more than jitter is a restart, and the clock runs on from the frame
    before; so it does at a jump in JUMPING_FORMATS. A frame without a time follows the frame before
    after `1 / fps` seconds. All other times stay as they are in the file.
    """

    def __init__(self, container: str, time_base: Fraction, fps: float) -> None:
        self._tick_s = float(time_base)
        self._frame_ticks = 1.0 / (fps * self._tick_s)
        self._least_step = max(1, round(LEAST_STEP_S / time_base))
        self._breaks = TimeBreaks(container, time_base, fps)
        self._is_avi = container == "avi"
        self._shift = 0
        self._last: float | None = None

    def ticks(self, pts: int | None, dts: int | None = None) -> int:
        """Return the time of the next frame; `dts` is that of the packet that completed it."""
        # FFmpeg numbers the packets of an AVI file: only their order of decoding is sure.
        stamp = dts if self._is_avi else pts
        if self._last is None:
            self._last = float(stamp or 0)
            return round(self._last)
        before = round(self._last)
        if stamp is None:
            self._last += self._frame_ticks
        elif self._breaks.is_break(before, stamp + self._shift):
            self._last += self._frame_ticks
            self._shift = round(self._last) - stamp
        else:
            self._last = float(max(stamp + self._shift, before + self._least_step))
        return max(round(self._last), before + 1)

    def time_s(self, pts: int | None, dts: int | None = None) -> float:
        """Return the time of the next frame in seconds."""
        return self.ticks(pts, dts) * self._tick_s


class TimeBreaks:
    """Recognizes two successive times of a stream between which its clock was set anew."""

    def __init__(self, container: str, time_base: Fraction, fps: float) -> None:
        frame_ticks = 1.0 / (fps * float(time_base))
        self._back = max(RESTART_FRAMES * frame_ticks, RESTART_S / float(time_base))
        self._ahead = (
            LONGEST_GAP_S / float(time_base) if container in JUMPING_FORMATS else float("inf")
        )

    def is_break(self, before: int, after: int) -> bool:
        """Return whether time `after` cannot follow time `before`, both in ticks."""
        return not -self._back < after - before < self._ahead


def packet_ticks(
    stamps: Sequence[tuple[int, int | None]], clock: FrameClock, breaks: TimeBreaks
) -> list[int]:
    """Return the clock's time for each frame, from (pts, dts) of its packets in decoding order.

    Between two breaks, frames are shown in the order of their pts.
    """
    found: list[int] = []
    start = 0
    ends = [i for i in range(1, len(stamps)) if _is_break(stamps[i - 1], stamps[i], breaks)]
    for end in [*ends, len(stamps)]:
        part = [pts for pts, _ in stamps[start:end]]
        order = sorted(range(len(part)), key=part.__getitem__)
        ticks = {place: clock.ticks(part[place], part[place]) for place in order}
        found += [ticks[place] for place in range(len(part))]
        start = end
    return found


def _is_break(
    before: tuple[int, int | None], after: tuple[int, int | None], breaks: TimeBreaks
) -> bool:
    (_, dts_before), (_, dts_after) = before, after
    if dts_before is None or dts_after is None:
        return False
    return breaks.is_break(dts_before, dts_after)
