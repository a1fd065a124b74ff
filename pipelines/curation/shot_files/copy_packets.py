"""Copies the packets of shots into files of their own, where these packets are exactly the shot.

A copy is checked: it must decode to the frames of its span, at their own times. Knows nothing about
encoding, storage, Ray or tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
from av.video.stream import VideoStream

from fw_model.media.frame_times import FrameClock, TimeBreaks, packet_ticks
from pipelines.curation.analysis.video_stream import (
    Rejected,
    StreamSeen,
    first_video,
    iter_frames,
    stream_fps,
    time_unit,
)
from pipelines.curation.shot_files.spans import CutSpan, file_name

COPYABLE = ("h264", "hevc", "vp9", "mpeg4")
"""Codecs whose packets an MP4 file can hold unchanged; PyAV sets up no stream of AV1 to copy."""
CODEC_TAGS = {"hevc": "hvc1"}
"""Tags to write instead of FFmpeg's own: Apple plays HEVC under no other."""
TIME_TOLERANCE_S = 0.002  # MP4's time unit may be coarser than the source's


class NotCopyable(Exception):
    """The packets of this span are not exactly its frames."""


@dataclass(frozen=True)
class SourcePacket:
    """A packet of the video stream: its frame's number, None if that is not shown, and its time."""

    frame: int | None
    ticks: int
    is_keyframe: bool
    is_corrupt: bool


@dataclass(frozen=True)
class SourceIndex:
    """The packets of a video in decoding order; times are in units of `time_base`."""

    packets: Sequence[SourcePacket]
    times: Mapping[int, int]
    """Frame -> when it is shown."""
    time_base: Fraction


def copies(
    path: str | Path, spans: Sequence[CutSpan], *, num_frames: int, folder: Path
) -> Iterator[tuple[CutSpan, str | None]]:
    """Copy what can be copied; yield each span with the reason it was not copied, or None."""
    try:
        index = _index(path, num_frames)
    except (NotCopyable, Rejected, av.error.FFmpegError) as fault:
        yield from ((span, str(fault)) for span in spans)
        return
    runs = {}
    for span in spans:
        try:
            runs[span] = _run(index.packets, span)
        except NotCopyable as fault:
            yield span, str(fault)
    for span, file in _copy_runs(path, runs, index, folder):
        ticks = sorted(packet.ticks for packet in index.packets[runs[span].start : runs[span].stop])
        problem = _copy_problem(file, [float((t - ticks[0]) * index.time_base) for t in ticks])
        if problem is not None:
            file.unlink(missing_ok=True)
        yield span, problem


def _index(path: str | Path, num_frames: int) -> SourceIndex:
    """Read all packets; NotCopyable if they do not match the frames."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream = first_video(container)
        context = stream.codec_context
        if context is None or context.codec.canonical_name not in COPYABLE:
            raise NotCopyable(
                f"packets of {context and context.codec.canonical_name} are not copied"
            )
        seen = [
            (packet.pts, packet.dts, packet.is_keyframe, packet.is_discard, packet.is_corrupt)
            for packet in container.demux(stream)
            if packet.size
        ]
        name, time_base, fps = container.format.name, time_unit(stream), stream_fps(stream)
    stamps = [(pts, dts) for pts, dts, _, is_hidden, _ in seen if pts is not None and not is_hidden]
    num_shown = sum(not is_hidden for *_, is_hidden, _ in seen)
    if len(stamps) != num_shown:
        raise NotCopyable("some packets have no time")
    clock, breaks = FrameClock(name, time_base, fps), TimeBreaks(name, time_base, fps)
    shown = packet_ticks(stamps, clock, breaks)
    if len(stamps) != num_frames:
        raise NotCopyable(f"{len(stamps)} packets gave {num_frames} frames")
    numbers = {ticks: number for number, ticks in enumerate(sorted(shown))}
    times = iter(shown)
    packets = []
    for _, _, is_keyframe, is_hidden, is_corrupt in seen:
        ticks = 0 if is_hidden else next(times)
        number = None if is_hidden else numbers[ticks]
        packets.append(SourcePacket(number, ticks, is_keyframe, is_corrupt))
    return SourceIndex(packets, dict(enumerate(sorted(shown))), time_base)


def _run(packets: Sequence[SourcePacket], span: CutSpan) -> range:
    """Return the indices of the packets that are exactly the frames of `span`.

    Raises NotCopyable if there are none.
    """
    first = next((i for i, p in enumerate(packets) if p.frame == span.start_frame), None)
    if first is None or not packets[first].is_keyframe:
        raise NotCopyable(f"frame {span.start_frame} is not a keyframe")
    run = range(first, first + span.end_frame - span.start_frame)
    held = {packet.frame for packet in packets[run.start : run.stop]}
    if held != set(range(span.start_frame, span.end_frame)):
        raise NotCopyable(f"frames before {span.end_frame} depend on later ones")
    if any(packet.is_corrupt for packet in packets[run.start : run.stop]):
        raise NotCopyable("some packets are damaged")
    return run


def _copy_runs(
    path: str | Path, runs: Mapping[CutSpan, range], index: SourceIndex, folder: Path
) -> Iterator[tuple[CutSpan, Path]]:
    """Write the packets of each run to its own file, in one pass; runs do not overlap."""
    waiting = sorted(runs, key=lambda span: runs[span].start)
    if not waiting:
        return
    with av.open(str(path), metadata_errors="replace") as container:
        stream = first_video(container)
        numbered = enumerate(packet for packet in container.demux(stream) if packet.size)
        for span in waiting:
            file, run = folder / file_name(span), runs[span]
            times = [packet.ticks for packet in index.packets[run.start : run.stop]]
            stamps = _stamps(times)
            # The last packet lasts until the frame after the span is shown.
            following = index.times.get(span.end_frame)
            last = run.stop - 1
            with av.open(str(file), "w") as target:
                copy = _added_copy(target, stream)
                for place, packet in numbered:
                    if place in run:
                        packet.pts, packet.dts = stamps[place - run.start]
                        if place == last and following is not None:
                            length = following - index.times[span.start_frame]
                            packet.duration = max(1, length - (stamps[-1][1] - stamps[0][1]))
                        packet.stream = copy
                        target.mux(packet)
                    if place >= last:
                        break
            yield span, file


def _added_copy(target: av.container.OutputContainer, stream: VideoStream) -> VideoStream:
    """Add a stream for the packets of `stream` to a file."""
    copy: VideoStream = target.add_stream_from_template(stream)
    if tag := CODEC_TAGS.get(stream.codec_context.codec.canonical_name):
        copy.codec_context.codec_tag = tag
    return copy


def _stamps(times: Sequence[int]) -> list[tuple[int, int]]:
    """Return (pts, dts) of packets in decoding order whose frames are shown at `times`.

    The first frame is shown at 0. Decoding times are made anew, because Matroska stores none: they
    are the sorted presentation times, earlier by as many frames as the order differs.
    """
    ordered = sorted(times)
    ranks = {ticks: rank for rank, ticks in enumerate(ordered)}
    delay = max(place - ranks[ticks] for place, ticks in enumerate(times))
    step = max(1, ordered[1] - ordered[0]) if len(ordered) > 1 else 1
    early = [ordered[0] - step * count for count in range(delay, 0, -1)]
    decoded = [*early, *ordered]
    return [
        (ticks - ordered[0], dts - ordered[0]) for ticks, dts in zip(times, decoded, strict=False)
    ]


def _copy_problem(file: Path, times_s: Sequence[float]) -> str | None:
    """Return what is wrong with a copied file; None if it decodes to whole frames at `times_s`."""
    seen = StreamSeen()
    try:
        with av.open(str(file)) as container:
            frames = iter_frames(container, first_video(container), seen)
            found = [None if frame.time is None else float(frame.time) for frame in frames]
    except (Rejected, av.error.FFmpegError) as fault:
        return f"the copy cannot be read ({fault})"
    if len(found) != len(times_s) or seen.decode_errors or seen.demux_error:
        return f"the copy has {len(found)} of {len(times_s)} frames and {seen.decode_errors} faults"
    for number, (time_s, wanted_s) in enumerate(zip(found, times_s, strict=True)):
        if time_s is None or abs(time_s - wanted_s) > TIME_TOLERANCE_S:
            return f"frame {number} of the copy is shown at {time_s} s instead of {wanted_s:.6g} s"
    return None
