"""Analyzes a long video in time ranges, each by itself, and merges the results into one row.

A first pass reads packets and decodes nothing: it finds every frame's time, and where decoding can
start. A range is decoded from well before its first frame to well after its last, so that the
detector is in the state that a pass over the whole video would give it. A file whose decoded frames
do not match its packets (a frame missing, a time twice) must be analyzed whole instead.

Runs inside decoding children, except for `merge_ranges`. Knows nothing about processes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fw_model.media.deinterlace import deinterlaced
from fw_model.media.frame_times import TimeBreaks
from fw_model.schemas.curated import VideoReason
from fw_model.schemas.curated_rows import DecodedVideoRow
from pipelines.curation.analysis.analyze import (
    FRAMES_PER_HEARTBEAT,
    OnProgress,
    complete_row,
    failures_recorded,
    new_tracker,
    opened,
    opened_source,
    quarantined_row,
)
from pipelines.curation.analysis.interlacing import FieldMeter
from pipelines.curation.analysis.shot_tracker import (
    AnalyzeSettings,
    OnKeyframe,
    VideoMeasurements,
)
from pipelines.curation.analysis.video_stream import (
    Rejected,
    StreamSeen,
    check_faults,
    check_promised,
    check_stream,
    note_time,
    time_unit,
    usable_fps,
)

LEAD_S = 30.0  # more than any detector looks back or ahead
SPLIT = "split"
"""Status of a video that was split into ranges; it is never committed."""


class UnreliableTimes(Exception):
    """Frames cannot be counted by their times: the video must be analyzed whole."""


@dataclass(frozen=True)
class TimeRange:
    """Frames `own` of a video, and the frames around them that are decoded as well.

    `times` are the presentation times of frames `decoded`, in the stream's unit.
    """

    own: range
    decoded: range
    times: array[int]
    is_last: bool

    @property
    def own_times(self) -> tuple[int, int]:
        """The times of the first and of the last own frame."""
        first = self.own.start - self.decoded.start
        return self.times[first], self.times[first + len(self.own) - 1]


@dataclass
class SplitVideo:
    """The row of a video as far as its packets fill it, and its ranges.

    There are no ranges if the row is quarantined, or if frames cannot be counted by their times.
    """

    row: DecodedVideoRow
    num_packets: int = 0
    ranges: list[TimeRange] = field(default_factory=list)


@dataclass(frozen=True)
class MeasuredRange:
    """The measurements of a range's own frames, and the number of faults in its own packets."""

    measured: VideoMeasurements
    num_faults: int


def split_video(
    path: str | Path,
    *,
    uri: str,
    settings: AnalyzeSettings,
    on_progress: OnProgress = lambda: None,
) -> SplitVideo:
    """Read a video's packets and split it into ranges; the row's status is SPLIT if that worked."""
    split = SplitVideo(quarantined_row(uri))
    with (
        failures_recorded(split.row),
        opened_source(split.row, path, settings, on_progress) as (container, stream),
    ):
        seen = StreamSeen()
        fps = usable_fps(split.row["fps"])
        breaks = TimeBreaks(container.format.name, time_unit(stream), fps)
        times, starts = _packet_times(container, stream, seen, breaks, on_progress)
        check_promised(container, stream, seen, settings.decode)
        split.num_packets = seen.num_packets
        split.row["status"] = SPLIT
        if len(times) == seen.num_packets - seen.num_hidden == len(set(times)) and starts:
            assert settings.decode.range_s is not None  # otherwise no video is split
            split.ranges = _ranges(times, starts, fps, settings.decode.range_s)
    return split


def analyze_range(
    path: str | Path,
    *,
    row: DecodedVideoRow,
    part: TimeRange,
    settings: AnalyzeSettings,
    on_keyframe: OnKeyframe,
    on_progress: OnProgress = lambda: None,
) -> MeasuredRange:
    """Measure one range; UnreliableTimes if other frames arrive than its times say."""
    seen = StreamSeen()
    with opened(path) as (container, stream):
        first = part.decoded.start
        tracker = new_tracker(row, stream, settings, on_keyframe, first=first, own=part.own)
        check_stream(stream, settings.decode)
        container.seek(part.times[0], stream=stream, backward=True)
        meter = FieldMeter()
        frames = _range_frames(container, stream, part, seen, on_progress)
        for frame in deinterlaced(meter.marked(frames)):
            if part.times[tracker.next_frame - part.decoded.start] != frame.pts:
                raise UnreliableTimes(
                    f"frame {tracker.next_frame} arrived with the time {frame.pts}"
                )
            tracker.take(frame)
            if tracker.next_frame % FRAMES_PER_HEARTBEAT == 0:
                on_progress()
            if tracker.next_frame == part.decoded.stop:
                break
    if tracker.next_frame != part.decoded.stop:
        raise UnreliableTimes(f"frame {tracker.next_frame} did not arrive")
    fields = meter.kinds()[: len(part.decoded)]
    measured = tracker.finish(fields, is_end=part.is_last).only(part.own)
    return MeasuredRange(measured, seen.decode_errors)


def _range_frames(
    container: InputContainer,
    stream: VideoStream,
    part: TimeRange,
    seen: StreamSeen,
    on_progress: OnProgress,
) -> Iterator[VideoFrame]:
    """Yield the frames from the range's first decoded one on; faults of its own are counted."""
    first_own, last_own = part.own_times
    num_skipped = 0  # between the place where decoding can start and the range
    for packet in container.demux(stream):
        try:
            frames = stream.decode(packet)
        except av.error.MemoryError as fault:
            raise Rejected(VideoReason.OUT_OF_MEMORY, str(fault)) from fault
        except av.error.FFmpegError:
            seen.decode_errors += packet.pts is not None and first_own <= packet.pts <= last_own
            continue
        for frame in frames:
            if frame.pts is None:
                raise UnreliableTimes("a frame has no time")
            if frame.pts >= part.times[0]:
                seen.decode_errors += frame.is_corrupt and first_own <= frame.pts <= last_own
                yield frame
                continue
            num_skipped += 1
            if num_skipped % FRAMES_PER_HEARTBEAT == 0:
                on_progress()


def merge_ranges(
    split: SplitVideo, parts: Sequence[MeasuredRange], settings: AnalyzeSettings
) -> DecodedVideoRow:
    """Return the row of the whole video from the measurements of all its ranges.

    Rejected if too many packets of all ranges together were damaged.
    """
    whole = parts[0].measured
    for part in parts[1:]:
        whole.extend(part.measured)
    faults = sum(part.num_faults for part in parts)
    check_faults(faults, split.num_packets, settings.decode)
    row = split.row
    row.update({"num_frames": whole.num_frames, "decode_errors": faults})
    complete_row(row, whole, settings)
    return row


def _packet_times(
    container: InputContainer,
    stream: VideoStream,
    seen: StreamSeen,
    breaks: TimeBreaks,
    on_progress: OnProgress,
) -> tuple[array[int], list[int]]:
    """Return the times of all frames that are shown, in order, and those of key frames; none if
    the stream's clock was set anew."""
    times, starts = array("q"), []
    last_dts: int | None = None
    has_break = False
    try:
        for packet in container.demux():
            note_time(packet, seen)
            if packet.stream.index != stream.index or not packet.size:
                continue
            seen.num_packets += 1
            seen.num_hidden += packet.is_discard
            if packet.dts is not None:
                has_break |= last_dts is not None and breaks.is_break(last_dts, packet.dts)
                last_dts = packet.dts
            if packet.pts is not None and not packet.is_discard:
                times.append(packet.pts)
                if packet.is_keyframe:
                    starts.append(packet.pts)
            if seen.num_packets % 2000 == 0:
                on_progress()
    except av.error.FFmpegError as fault:
        seen.demux_error = str(fault)
    if has_break:
        return array("q"), []
    return array("q", sorted(times)), sorted(starts)


def _ranges(times: array[int], starts: list[int], fps: float, range_s: float) -> list[TimeRange]:
    """Cut at frames where decoding can start, about `range_s` apart."""
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
        decoded_times = times[decoded.start : decoded.stop]
        found.append(TimeRange(range(begin, end), decoded, decoded_times, end == len(times)))
    return found
