"""Reading the video stream of a file: what it says of itself, its frames, and whether all came.

A fault that makes the file useless is raised as `Rejected` with a reason; lesser ones are counted.
Knows nothing of shots.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import av
import av.error
import numpy as np

from fw_model.schemas.curated import VideoReason
from pipelines.curation.config import DecodeConfig


class Rejected(Exception):
    """This video is not to be kept."""

    def __init__(self, reason: VideoReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass
class StreamSeen:
    """What was seen of the video stream while it was read."""

    num_packets: int = 0
    num_hidden: int = 0  # of them, decoded but left out by an edit list
    decode_errors: int = 0
    first_s: float | None = None
    ends_s: dict[int, float] = field(default_factory=dict)  # of each stream, of its packets so far
    demux_error: str | None = None
    ticks_s: dict[int, float] = field(default_factory=dict)  # of each stream: its unit of time


def first_video(container: Any) -> Any:
    """Return the first real video stream: cover art of a song is not one."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    kinds = ", ".join(sorted({s.type for s in container.streams})) or "no streams"
    raise Rejected(VideoReason.NO_VIDEO_STREAM, f"the file holds {kinds}")


def describe(container: Any, stream: Any) -> dict[str, Any]:
    """Return what the container and the stream say of themselves, as fields of a video row."""
    context = stream.codec_context
    return {
        "container": container.format.name,
        "codec": context.name if context is not None else None,
        "pixel_format": stream.pix_fmt if context is not None else None,
        "width": context.width if context is not None else None,
        "height": context.height if context is not None else None,
        "sample_aspect_ratio": float(stream.sample_aspect_ratio or 1) or 1.0,
        "fps": float(stream.average_rate or stream.guessed_rate or 0),
        "num_video_streams": len(container.streams.video),
    }


def check_stream(stream: Any, limits: DecodeConfig) -> None:
    """Raise Rejected if the stream cannot be decoded within `limits`; else prepare its decoder."""
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
    # Frames that others are predicted from stay exact. The rest keep the edges of their blocks,
    # which nobody sees at a keyframe's size, and cost a sixth less.
    context.options = {"skip_loop_filter": "noref"}


def iter_frames(container: Any, stream: Any, seen: StreamSeen) -> Iterator[Any]:
    """Yield the stream's frames in presentation order; faults are counted, not raised."""
    try:
        own = stream.index
        for packet in container.demux():
            note_time(packet, seen)
            if packet.stream.index != own:  # packet.stream_index is wrong of those that flush
                continue
            seen.num_packets += packet.size > 0
            try:
                frames = packet.decode()
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


def note_time(packet: Any, seen: StreamSeen) -> None:
    """Widen the span of time that the packets cover."""
    index = packet.stream.index
    tick_s = seen.ticks_s.get(index)
    if tick_s is None:  # a fraction is slow to make, and a stream has but one
        tick_s = seen.ticks_s[index] = float(packet.time_base or 0)
    dts = packet.dts
    if dts is None or not tick_s:
        return
    start_s = dts * tick_s
    end_s = start_s + (packet.duration or 0) * tick_s
    seen.first_s = start_s if seen.first_s is None else min(seen.first_s, start_s)
    seen.ends_s[index] = max(seen.ends_s.get(index, 0.0), end_s)


def check_decoded(
    container: Any, stream: Any, seen: StreamSeen, num_frames: int, limits: DecodeConfig
) -> None:
    """Raise Rejected if too much of what the header promised did not come out of the decoder."""
    if num_frames == 0:
        _name_what_is_missing(container, stream, seen, limits)
    check_faults(seen.decode_errors, seen.num_packets, limits)
    check_promised(container, stream, seen, limits)
    promised, _ = _promise(container, stream, seen)
    if seen.demux_error and (num_frames < 2 or not promised):
        # Where nothing says how long the file should be, nothing says how little is missing.
        raise Rejected(VideoReason.TRUNCATED, seen.demux_error)


def check_faults(num_faults: int, num_packets: int, limits: DecodeConfig) -> None:
    """Raise Rejected if too many packets were damaged."""
    # More faults than packets can be counted (a frame marked corrupt after its packet failed).
    ratio = min(1.0, num_faults / max(1, num_packets))
    if ratio > limits.max_error_ratio:
        raise Rejected(
            VideoReason.DECODE_ERRORS, f"{num_faults} faults in {num_packets} packets ({ratio:.0%})"
        )


def check_promised(container: Any, stream: Any, seen: StreamSeen, limits: DecodeConfig) -> None:
    """Raise Rejected if the file holds too little of what its header promises."""
    promised, found = _promise(container, stream, seen)
    if promised and 1.0 - found / promised > limits.max_missing_ratio:
        raise Rejected(VideoReason.TRUNCATED, _promise_text(stream, promised, found))


def _name_what_is_missing(
    container: Any, stream: Any, seen: StreamSeen, limits: DecodeConfig
) -> None:
    """Raise Rejected: no frame came."""
    check_promised(container, stream, seen, limits)
    if seen.decode_errors:
        raise Rejected(
            VideoReason.DECODE_ERRORS,
            f"no frame could be decoded from {seen.num_packets} packets",
        )
    raise Rejected(VideoReason.NO_FRAMES, "the video stream holds no packets")


def _promise(container: Any, stream: Any, seen: StreamSeen) -> tuple[float, float]:
    """Return what the header promises and what was found: frames where it counts them, else
    seconds of all streams together (sound may outlast the picture).

    Frames that an edit list leaves out are counted but never come, so what is missing of them must
    be missing of the stream's time too.
    """
    if stream.frames:
        found = float(seen.num_packets)
        if stream.duration:
            start_s = (stream.start_time or 0) * float(stream.time_base)
            share = (seen.ends_s.get(stream.index, 0.0) - start_s) / (
                stream.duration * float(stream.time_base)
            )
            found = max(found, stream.frames * min(1.0, share))
        return float(stream.frames), found
    if container.duration:
        last_s = max(seen.ends_s.values(), default=0.0)
        return container.duration / av.time_base, last_s - (seen.first_s or 0.0)
    return 0.0, 0.0


def _promise_text(stream: Any, promised: float, found: float) -> str:
    unit = "frames" if stream.frames else "seconds"
    return f"the header promises {promised:g} {unit}, the file holds {found:.4g}"


def is_variable(times: array[float]) -> bool:
    """Tell whether the distance between frames varies by more than rounding does."""
    if len(times) < 3:
        return False
    gaps = np.diff(np.frombuffer(times, np.float64))
    typical = float(np.median(gaps))
    return bool((np.abs(gaps - typical) > max(0.0021, 0.1 * abs(typical))).mean() > 0.02)
