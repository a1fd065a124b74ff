"""Reads the video stream of a file: its header, its frames, and whether all of them arrived.

A fault that makes the file useless is raised as `Rejected` with a reason; other faults are counted.
Knows nothing about shots.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from fw_model.media.frame_times import JUMPING_FORMATS
from fw_model.schemas.curated import VideoReason
from fw_model.schemas.curated_rows import DecodedVideoRow
from pipelines.curation.config import DecodeConfig

DEFAULT_FPS = 25.0
MAX_FPS = 1000.0
MAX_FPS_ERROR = 0.1  # times are rounded, in some files to milliseconds


class Rejected(Exception):
    """The video must be quarantined."""

    def __init__(self, reason: VideoReason, detail: str) -> None:
        super().__init__(reason, detail)  # both, so that it can be pickled
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


@dataclass
class StreamSeen:
    """Counts and times collected while a file is read."""

    num_packets: int = 0
    num_hidden: int = 0  # packets that an edit list hides
    decode_errors: int = 0
    first_s: float | None = None
    ends_s: dict[int, float] = field(default_factory=dict)  # per stream: end of the packets so far
    demux_error: str | None = None
    ticks_s: dict[int, float] = field(default_factory=dict)  # per stream: its time unit


def first_video(container: InputContainer) -> VideoStream:
    """Return the first real video stream; the cover art of a song is not one."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    kinds = ", ".join(sorted({s.type for s in container.streams})) or "no streams"
    raise Rejected(VideoReason.NO_VIDEO_STREAM, f"the file contains only: {kinds}")


def _stated_fps(stream: VideoStream) -> float:
    return float(stream.average_rate or stream.guessed_rate or 0)


def stream_fps(stream: VideoStream) -> float:
    """Return the rate that the file claims, or a common one if the claim is absurd."""
    return usable_fps(_stated_fps(stream))


def time_unit(stream: VideoStream) -> Fraction:
    """Return the unit of the times in a stream, seconds."""
    return stream.time_base or Fraction(1, 90_000)


def usable_fps(claimed: float | None) -> float:
    """Return a claimed rate, or a common one if the claim is absurd."""
    return claimed if claimed and 0 < claimed <= MAX_FPS else DEFAULT_FPS


def record_header(row: DecodedVideoRow, container: InputContainer, stream: VideoStream) -> None:
    """Fill the row's columns with what the headers of the container and the stream say."""
    context = stream.codec_context
    row.update(
        {
            "container": container.format.name,
            "codec": context.name if context is not None else None,
            "pixel_format": stream.pix_fmt if context is not None else None,
            "width": context.width if context is not None else None,
            "height": context.height if context is not None else None,
            "sample_aspect_ratio": float(stream.sample_aspect_ratio or 1) or 1.0,
            "fps": _stated_fps(stream),
            "num_video_streams": len(container.streams.video),
        }
    )


def check_stream(stream: VideoStream, limits: DecodeConfig) -> None:
    """Raise Rejected if the stream cannot be decoded within `limits`; else set up its decoder."""
    context = stream.codec_context
    if context is None:
        raise Rejected(VideoReason.UNSUPPORTED_CODEC, "there is no decoder for this codec")
    if context.width * context.height > limits.max_pixels:
        raise Rejected(
            VideoReason.TOO_LARGE,
            f"{context.width}x{context.height} is more than {limits.max_pixels} pixels",
        )
    context.thread_type = "NONE"
    context.thread_count = 1
    # Reference frames stay exact. The others keep visible block edges, which do not show at a
    # keyframe's size, and decoding costs a sixth less.
    context.options = {"skip_loop_filter": "noref"}


def iter_frames(
    container: InputContainer, stream: VideoStream, seen: StreamSeen
) -> Iterator[VideoFrame]:
    """Yield the stream's frames in presentation order; faults are counted, not raised."""
    try:
        own = stream.index
        for packet in container.demux():
            note_time(packet, seen)
            if packet.stream.index != own:  # flushing packets have a wrong `stream_index`
                continue
            seen.num_packets += packet.size > 0
            try:
                frames = stream.decode(packet)
            except av.error.MemoryError as fault:
                raise Rejected(VideoReason.OUT_OF_MEMORY, str(fault)) from fault
            except av.error.FFmpegError:
                seen.decode_errors += 1
                continue
            for frame in frames:
                if frame.is_corrupt:
                    seen.decode_errors += 1
                yield frame
    except av.error.FFmpegError as fault:
        seen.demux_error = str(fault)


def note_time(packet: Packet[Stream], seen: StreamSeen) -> None:
    """Extend the time span that the packets cover."""
    index = packet.stream.index
    tick_s = seen.ticks_s.get(index)
    if tick_s is None:  # reading the fraction is slow, and a stream has only one
        tick_s = seen.ticks_s[index] = float(packet.time_base or 0)
    # Matroska stores no dts, and the last ones may be earlier than the end by several frames.
    stamp = packet.dts if packet.pts is None else packet.pts
    if stamp is None or not tick_s:
        return
    start_s = stamp * tick_s
    end_s = start_s + (packet.duration or 0) * tick_s
    seen.first_s = start_s if seen.first_s is None else min(seen.first_s, start_s)
    seen.ends_s[index] = max(seen.ends_s.get(index, 0.0), end_s)


def check_decoded(
    container: InputContainer,
    stream: VideoStream,
    seen: StreamSeen,
    num_frames: int,
    limits: DecodeConfig,
) -> None:
    """Raise Rejected if too many of the promised frames did not come out of the decoder."""
    if num_frames:
        check_faults(seen.decode_errors, seen.num_packets, limits)
    check_promised(container, stream, seen, limits)
    if num_frames == 0 and seen.decode_errors:
        raise Rejected(
            VideoReason.DECODE_ERRORS, f"none of {seen.num_packets} packets could be decoded"
        )
    if num_frames == 0:
        raise Rejected(VideoReason.NO_FRAMES, "the video stream has no packets")
    promised, _ = _promise(container, stream, seen)
    if seen.demux_error and (num_frames < 2 or not promised):
        # A file that does not state its length cannot show that little is missing.
        raise Rejected(VideoReason.TRUNCATED, seen.demux_error)


def check_faults(num_faults: int, num_packets: int, limits: DecodeConfig) -> None:
    """Raise Rejected if too many packets were damaged."""
    # There can be more faults than packets: a packet fails, then its frame is marked corrupt.
    ratio = min(1.0, num_faults / max(1, num_packets))
    if ratio > limits.max_error_ratio:
        raise Rejected(
            VideoReason.DECODE_ERRORS, f"{num_faults} faults in {num_packets} packets ({ratio:.0%})"
        )


def check_promised(
    container: InputContainer, stream: VideoStream, seen: StreamSeen, limits: DecodeConfig
) -> None:
    """Raise Rejected if the file holds much less than its header promises."""
    if container.format.name in JUMPING_FORMATS:
        return  # they have no header: FFmpeg takes the length from the last time in the file
    promised, found = _promise(container, stream, seen)
    if promised and 1.0 - found / promised > limits.max_missing_ratio:
        unit = "frames" if stream.frames else "seconds"
        raise Rejected(
            VideoReason.TRUNCATED,
            f"the header promises {promised:g} {unit}, the file holds {found:.4g}",
        )


def _promise(
    container: InputContainer, stream: VideoStream, seen: StreamSeen
) -> tuple[float, float]:
    """Return what the header promises and what was found: in frames if the header counts them,
    else in seconds of all streams together (sound may outlast the picture).

    The header also counts frames that an edit list hides. They never arrive, so missing frames only
    count if the stream's time is missing too.
    """
    if stream.frames:
        found = float(seen.num_packets)
        if stream.duration and stream.time_base:
            tick_s = float(stream.time_base)
            start_s = (stream.start_time or 0) * tick_s
            share = (seen.ends_s.get(stream.index, 0.0) - start_s) / (stream.duration * tick_s)
            found = max(found, stream.frames * min(1.0, share))
        return float(stream.frames), found
    if container.duration:
        last_s = max(seen.ends_s.values(), default=0.0)
        return container.duration / av.time_base, last_s - (seen.first_s or 0.0)
    return 0.0, 0.0


def is_variable(times: array[float]) -> bool:
    """Return whether the distance between frames varies by more than rounding explains."""
    if len(times) < 3:
        return False
    gaps = np.diff(np.frombuffer(times, np.float64))
    typical = float(np.median(gaps))
    return bool((np.abs(gaps - typical) > max(0.0021, 0.1 * abs(typical))).mean() > 0.02)


def shown_fps(times: array[float], claimed: float) -> float:
    """Return the rate of evenly spaced frames: the claimed one, unless their times contradict it.

    Some interlaced files claim the rate of their fields.
    """
    if len(times) < 3 or is_variable(times):
        return claimed
    measured = 1.0 / float(np.median(np.diff(np.frombuffer(times, np.float64))))
    return claimed if abs(measured / claimed - 1.0) < MAX_FPS_ERROR else measured
