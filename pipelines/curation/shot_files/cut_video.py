"""Cuts shots out of a video file in one pass: packets are copied where that is exact, otherwise
frames are encoded again.

A shot file holds exactly the frames of its span at their own times, starting at 0. Encoded files
are H.264, yuv420p, upright, progressive, in MP4; odd sizes are padded by repeating the last column
or row. No file has sound. Knows nothing about storage, Ray or tables.

Frame numbers count decoded frames in presentation order, as in analysis.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from fw_model.media.deinterlace import deinterlaced, field_orders
from fw_model.media.frame_times import FrameClock
from pipelines.curation.analysis.bars import Bars, crop
from pipelines.curation.analysis.video_stream import (
    Rejected,
    StreamSeen,
    first_video,
    iter_frames,
    stream_fps,
    time_unit,
)
from pipelines.curation.shot_files.copy_packets import copies
from pipelines.curation.shot_files.spans import CutSpan, ShotFile, file_name

# Without the flag, the last frame of a shot would last as long as frames do on average.
ENCODER_OPTIONS = {"crf": "18", "preset": "veryfast", "flags": "+frame_duration"}


def cut_video(
    path: str | Path, spans: Sequence[CutSpan], *, copy: bool, num_frames: int, folder: Path
) -> Iterator[ShotFile]:
    """Write a file `folder/SHOT_ID.mp4` for each span; yield each result as soon as it is final.

    `num_frames` is how many frames the analysis found. A span that cannot be cut gets the mode
    "failed"; nothing is raised because of a bad video.
    """
    left: dict[CutSpan, str | None] = dict.fromkeys(spans)  # why a span was not copied
    if copy:
        for span, problem in copies(path, spans, num_frames=num_frames, folder=folder):
            if problem is None:
                del left[span]
                yield ShotFile(span.shot_id, "copy", file_name(span))
            else:
                left[span] = problem
    if left:
        yield from _encoded(path, left, folder)


def _encoded(
    path: str | Path, reasons: Mapping[CutSpan, str | None], folder: Path
) -> Iterator[ShotFile]:
    """Decode once and encode the frames of each span, in the order of the video; `reasons` say why
    a span was not copied."""
    waiting = sorted(reasons, key=lambda span: span.start_frame)
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = first_video(container)
            stream.codec_context.thread_type = "NONE"
            frames = _timed(_pictures(container, stream, waiting), container, stream)
            while waiting:
                problem = _encode_span(frames, waiting[0], stream, folder / file_name(waiting[0]))
                span = waiting.pop(0)
                if problem is None:
                    yield ShotFile(span.shot_id, "transcode", file_name(span), reasons[span])
                else:
                    yield ShotFile(span.shot_id, "failed", None, problem)
    except (Rejected, av.error.FFmpegError) as fault:
        for span in waiting:
            yield ShotFile(span.shot_id, "failed", None, str(fault))


def _pictures(
    container: InputContainer, stream: VideoStream, spans: Sequence[CutSpan]
) -> Iterator[VideoFrame]:
    """Yield the stream's frames; those of interlaced spans as pictures of both fields."""
    orders = field_orders((s.start_frame, s.end_frame, s.field_order) for s in spans)
    frames = enumerate(iter_frames(container, stream, StreamSeen()))
    return deinterlaced((frame, orders.get(number)) for number, frame in frames)


@dataclass(frozen=True)
class _TimedFrame:
    """A frame, when it is shown and for how long, in ticks of the stream."""

    number: int
    picture: VideoFrame
    ticks: int
    duration: int


def _timed(
    frames: Iterator[VideoFrame], container: InputContainer, stream: VideoStream
) -> Iterator[_TimedFrame]:
    """Yield each frame with its time."""
    tick_s, fps = time_unit(stream), stream_fps(stream)
    clock = FrameClock(container.format.name, tick_s, fps)
    held: VideoFrame | None = None
    number = ticks = 0
    for frame in frames:
        following = clock.ticks(frame.pts, frame.dts)
        if held is not None:
            yield _TimedFrame(number, held, ticks, following - ticks)
            number += 1
        held, ticks = frame, following
    if held is not None:
        yield _TimedFrame(number, held, ticks, max(1, held.duration, round(1 / (fps * tick_s))))


def _encode_span(
    frames: Iterator[_TimedFrame], span: CutSpan, stream: VideoStream, file: Path
) -> str | None:
    """Encode the frames of `span`; return what was wrong, None if all arrived."""
    wanted = span.end_frame - span.start_frame
    with contextlib.closing(_ShotFileWriter(file, stream, span.bars)) as writer:
        for frame in frames:
            if frame.number >= span.start_frame:
                writer.write(frame)
            if frame.number >= span.end_frame - 1:
                break
    found = _num_packets(file) if writer.num_frames else 0
    if found == wanted:
        return None
    file.unlink(missing_ok=True)
    return f"the video has {found} of the {wanted} frames of [{span.start_frame}, {span.end_frame})"


class _ShotFileWriter:
    """Writes decoded frames as H.264, keeping the intervals between their times."""

    def __init__(self, file: Path, source: VideoStream, bars: Bars) -> None:
        self._source = source
        self._bars = bars
        self._target = av.open(str(file), "w", options={"movflags": "+faststart"})
        self._stream: VideoStream | None = None
        self._first_ticks = 0
        self.num_frames = 0

    def write(self, frame: _TimedFrame) -> None:
        """Append a frame; the first one sets the size."""
        picture = _upright_even(frame.picture, self._bars)
        stream = self._stream or self._open(picture, frame)
        if (picture.width, picture.height) != (stream.width, stream.height):
            picture = picture.reformat(width=stream.width, height=stream.height)
        picture.pts = frame.ticks - self._first_ticks
        picture.time_base = stream.codec_context.time_base
        picture.duration = frame.duration
        picture.pict_type = PictureType.NONE  # the encoder chooses
        self._target.mux(stream.encode(picture))
        self.num_frames += 1

    def _open(self, picture: VideoFrame, frame: _TimedFrame) -> VideoStream:
        rate = Fraction(stream_fps(self._source)).limit_denominator(1001)
        stream: VideoStream = self._target.add_stream("libx264", rate=rate, options=ENCODER_OPTIONS)
        stream.width, stream.height = picture.width, picture.height
        stream.pix_fmt = "yuv420p"
        self._first_ticks = frame.ticks
        context = stream.codec_context
        context.thread_count = 1
        context.time_base = time_unit(self._source)
        context.color_range = ColorRange.MPEG
        context.colorspace = picture.colorspace
        context.color_primaries, context.color_trc = picture.color_primaries, picture.color_trc
        ratio = Fraction(self._source.sample_aspect_ratio or 1) or Fraction(1)
        context.sample_aspect_ratio = 1 / ratio if round(frame.picture.rotation / 90) % 2 else ratio
        self._stream = stream
        return stream

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            self._target.mux(self._stream.encode(None))
        self._target.close()


def _upright_even(frame: VideoFrame, bars: Bars) -> VideoFrame:
    """Return a frame as yuv420p without bars, upright, with even sides."""
    quarter_turns = round(frame.rotation / 90) % 4
    if not bars and not quarter_turns and not frame.width % 2 and not frame.height % 2:
        return _yuv420p(frame)
    whole = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)  # [H, W, 3]
    pixels = crop(whole, bars, width=frame.width, height=frame.height)
    pixels = np.rot90(pixels, quarter_turns)
    padding = ((0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0))
    even = np.ascontiguousarray(np.pad(pixels, padding, mode="edge"))
    return _yuv420p(VideoFrame.from_ndarray(even, format="rgb24"))


def _yuv420p(frame: VideoFrame) -> VideoFrame:
    return frame.reformat(format="yuv420p", dst_color_range=ColorRange.MPEG)


def _num_packets(file: Path) -> int:
    with av.open(str(file)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)
