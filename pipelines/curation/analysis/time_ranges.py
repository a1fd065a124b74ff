"""A long video in ranges of time, each watched by itself, and all merged into one row.

A first look reads packets and decodes nothing: it tells every frame's time, and where decoding can
begin. A range is watched from some way before its first frame to some way after its last, so that
the detector is in the state that it would have been in. A file whose frames do not come out as its
packets promise (a frame missing, a time twice) cannot be counted so and is watched whole instead.

Runs inside decoding children, but for `merged`. Knows nothing of processes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av.error

from fw_model.schemas.curated import VideoReason
from pipelines.curation.analysis.analyze import (
    FRAMES_PER_HEARTBEAT,
    OnKeyframe,
    OnProgress,
    identified,
    new_tracker,
    opened,
    summed_up,
    usable_fps,
    whatever_happens,
)
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings, Watched
from pipelines.curation.analysis.video_stream import (
    Rejected,
    StreamSeen,
    check_faults,
    check_promised,
    check_stream,
    describe,
    note_time,
)

LEAD_S = 30.0  # more than any detector looks back or ahead


class Uncountable(Exception):
    """Frames cannot be told by their times: the video must be watched whole."""


@dataclass(frozen=True)
class TimeRange:
    """Frames `own` of a video, and the frames around them that are decoded as well.

    `times` are the presentation times of frames `decoded`, in the stream's unit.
    """

    own: range
    decoded: range
    times: array[int]
    is_last: bool


@dataclass(frozen=True)
class RangeWatched:
    """What came of a range: its own frames, and faults in its own packets."""

    watched: Watched
    num_faults: int


def split_video(
    path: str | Path,
    *,
    uri: str,
    settings: AnalyzeSettings,
    on_progress: OnProgress = lambda frames: None,
) -> tuple[dict[str, Any], list[TimeRange]]:
    """Return the row as far as packets tell it, and the ranges; none if frames are uncountable."""
    row: dict[str, Any] = {"uri": uri}
    ranges: list[TimeRange] = []
    with (
        whatever_happens(row),
        identified(row, path, on_progress),
        opened(path) as (container, stream),
    ):
        row |= describe(container, stream)
        check_stream(stream, settings.decode)
        seen = StreamSeen()
        times, starts = _packet_times(container, stream, seen, on_progress)
        check_promised(container, stream, seen, settings.decode)
        row |= {"num_packets": seen.num_packets, "status": "split"}
        if len(times) == seen.num_packets - seen.num_hidden == len(set(times)) and starts:
            assert settings.decode.range_s is not None  # else no video is split
            ranges = _ranges(times, starts, usable_fps(row), settings.decode.range_s)
    return row, ranges


def watch_range(
    path: str | Path,
    *,
    row: dict[str, Any],
    part: TimeRange,
    settings: AnalyzeSettings,
    on_keyframe: OnKeyframe,
    on_progress: OnProgress = lambda frames: None,
) -> RangeWatched:
    """Watch one range; Uncountable if other frames come than its times say."""
    tracker = new_tracker(row, settings, on_keyframe, first=part.decoded.start, own=part.own)
    faults = passed = 0
    with opened(path) as (container, stream):
        check_stream(stream, settings.decode)
        container.seek(part.times[0], stream=stream, backward=True)
        own_times = (part.times[part.own.start - part.decoded.start], _last_own_time(part))
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.MemoryError as fault:
                raise Rejected(VideoReason.OUT_OF_MEMORY, str(fault)) from fault
            except av.error.FFmpegError:
                faults += packet.pts is not None and own_times[0] <= packet.pts <= own_times[1]
                continue
            for frame in frames:
                if frame.pts is None:
                    raise Uncountable("a frame has no time")
                if frame.pts < part.times[0]:
                    passed += 1  # between the place that decoding can begin at and the range
                    if passed % FRAMES_PER_HEARTBEAT == 0:
                        on_progress(0)
                    continue
                if tracker.next_frame == part.decoded.stop:
                    break
                _check_turn(frame.pts, tracker.next_frame, part)
                faults += bool(frame.is_corrupt) and own_times[0] <= frame.pts <= own_times[1]
                tracker.take(frame)
                if tracker.next_frame % FRAMES_PER_HEARTBEAT == 0:
                    on_progress(tracker.next_frame)
            if tracker.next_frame == part.decoded.stop:
                break
    if tracker.next_frame != part.decoded.stop:
        raise Uncountable(f"frame {tracker.next_frame} did not come")
    return RangeWatched(tracker.finish(is_end=part.is_last).only(part.own), faults)


def merged(
    row: dict[str, Any], parts: Sequence[RangeWatched], settings: AnalyzeSettings
) -> dict[str, Any]:
    """Return the whole row from what packets told and what was seen of all ranges.

    Rejected if too many packets of all ranges together were damaged.
    """
    whole = parts[0].watched
    for part in parts[1:]:
        whole.extend(part.watched)
    faults = sum(part.num_faults for part in parts)
    check_faults(faults, row["num_packets"], settings.decode)
    row = {name: value for name, value in row.items() if name != "num_packets"}
    row |= {"num_frames": whole.num_frames, "decode_errors": faults}
    return row | summed_up(whole, row, settings) | {"status": "kept"}


def _packet_times(
    container: Any, stream: Any, seen: StreamSeen, on_progress: OnProgress
) -> tuple[array[int], list[int]]:
    """Return the times of all frames that are shown, in order, and those of key frames."""
    times, starts = array("q"), []
    try:
        for packet in container.demux():
            note_time(packet, seen)
            if packet.stream.index != stream.index or not packet.size:
                continue
            seen.num_packets += 1
            seen.num_hidden += packet.is_discard
            if packet.pts is not None and not packet.is_discard:
                times.append(packet.pts)
                if packet.is_keyframe:
                    starts.append(packet.pts)
            if seen.num_packets % 2000 == 0:
                on_progress(seen.num_packets)
    except av.error.FFmpegError as fault:
        seen.demux_error = str(fault)
    return array("q", sorted(times)), sorted(starts)


def _ranges(times: array[int], starts: list[int], fps: float, range_s: float) -> list[TimeRange]:
    """Cut at frames where decoding can begin, about `range_s` apart."""
    lead, step = round(LEAD_S * fps), max(1, round(range_s * fps))
    borders = [0]
    for wanted in range(step, len(times) - step // 2, step):
        near = bisect_right(starts, times[wanted]) - 1
        border = bisect_left(times, starts[near]) if near >= 0 else 0
        if border > borders[-1]:
            borders.append(border)
    ends = [*borders[1:], len(times)]
    found = []
    for begin, end in zip(borders, ends, strict=True):
        decoded = range(max(0, begin - lead), min(len(times), end + lead))
        found.append(
            TimeRange(
                range(begin, end), decoded, times[decoded.start : decoded.stop], end == len(times)
            )
        )
    return found


def _last_own_time(part: TimeRange) -> int:
    return part.times[part.own.stop - 1 - part.decoded.start]


def _check_turn(time: int, index: int, part: TimeRange) -> None:
    """Raise Uncountable unless the frame of this time is the one whose turn it is."""
    if part.times[index - part.decoded.start] != time:
        raise Uncountable(f"frame {index} came with the time {time}")
