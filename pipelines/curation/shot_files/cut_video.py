"""Cuts shots out of a video file in one pass: packets are copied where that is exact, otherwise
frames are encoded again.

A shot file holds exactly the frames of its span at their own times, starting at 0. Encoded files
are H.264, yuv420p, upright, in MP4; odd sizes are padded by repeating the last column or row. No
file has sound. Knows nothing about storage, Ray or tables.

Frame numbers count decoded frames in presentation order, as in analysis.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import av.error
import numpy as np
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream

from pipelines.curation.analysis.bars import NO_BARS, Bars, crop
from pipelines.curation.analysis.video_stream import Rejected, StreamSeen, first_video, iter_frames

COPYABLE = ("h264", "hevc", "av1", "vp9", "mpeg4")
"""Codecs whose packets an MP4 file can hold unchanged."""
ENCODER_OPTIONS = {"crf": "18", "preset": "veryfast"}


@dataclass(frozen=True)
class CutSpan:
    """The frames [start_frame, end_frame) of a shot to cut out, without its bars if it is encoded;
    packets are copied as they are."""

    shot_id: str
    start_frame: int
    end_frame: int
    bars: Bars = NO_BARS


@dataclass(frozen=True)
class ShotFile:
    """What became of a shot; `file` is a name in the output folder.

    `detail` says why the file is not the copy that was asked for, or why there is no file. A shot
    is unfinished if cutting stopped before its turn.
    """

    shot_id: str
    mode: Literal["copy", "transcode", "failed", "unfinished"]
    file: str | None = None
    detail: str | None = None


class NotCopyable(Exception):
    """The packets of this span are not exactly its frames."""


def cut_video(
    path: str | Path, spans: Sequence[CutSpan], *, copy: bool, num_frames: int, folder: Path
) -> Iterator[ShotFile]:
    """Write a file `folder/SHOT_ID.mp4` for each span; yield each result as soon as it is final.

    `num_frames` is how many frames the analysis found. A span that cannot be cut gets the mode
    "failed"; nothing is raised because of a bad video.
    """
    left: dict[CutSpan, str | None] = dict.fromkeys(spans)  # why a span was not copied
    if copy:
        for span, problem in _copies(path, spans, num_frames, folder):
            if problem is None:
                del left[span]
                yield ShotFile(span.shot_id, "copy", _file_name(span))
            else:
                left[span] = problem
    if left:
        yield from _encoded(path, left, folder)


def _file_name(span: CutSpan) -> str:
    return f"{span.shot_id}.mp4"


def _copies(
    path: str | Path, spans: Sequence[CutSpan], num_frames: int, folder: Path
) -> Iterator[tuple[CutSpan, str | None]]:
    """Copy what can be copied; yield each span with the reason it was not copied, or None."""
    try:
        packets = _index(path, num_frames)
    except (NotCopyable, Rejected, av.error.FFmpegError) as fault:
        yield from ((span, str(fault)) for span in spans)
        return
    runs = {}
    for span in spans:
        try:
            runs[span] = _run(packets, span)
        except NotCopyable as fault:
            yield span, str(fault)
    for span, file in _copy_runs(path, runs, packets, folder):
        problem = _copy_problem(file, span.end_frame - span.start_frame)
        if problem is not None:
            file.unlink(missing_ok=True)
        yield span, problem


@dataclass(frozen=True)
class _Packet:
    """A packet of the video stream; `frame` is the number of the frame it holds."""

    frame: int
    pts: int
    is_keyframe: bool


def _index(path: str | Path, num_frames: int) -> list[_Packet]:
    """Return the packets in decoding order; NotCopyable if they do not match the frames."""
    with av.open(str(path), metadata_errors="replace") as container:
        stream = first_video(container)
        if stream.codec_context is None or stream.codec_context.name not in COPYABLE:
            raise NotCopyable("an MP4 file cannot hold this codec")
        seen = [
            (packet.pts, packet.dts, packet.is_keyframe, packet.is_discard or packet.is_corrupt)
            for packet in container.demux(stream)
            if packet.size
        ]
    if any(pts is None or dts is None or is_odd for pts, dts, _, is_odd in seen):
        raise NotCopyable("some packets have no time or are hidden")
    numbers = {pts: number for number, pts in enumerate(sorted(pts for pts, _, _, _ in seen))}
    if len(numbers) != len(seen) or len(seen) != num_frames:
        raise NotCopyable(f"{len(seen)} packets gave {num_frames} frames")
    return [_Packet(numbers[pts], pts, is_keyframe) for pts, _, is_keyframe, _ in seen]


def _run(packets: Sequence[_Packet], span: CutSpan) -> range:
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
    return run


def _copy_runs(
    path: str | Path, runs: Mapping[CutSpan, range], packets: Sequence[_Packet], folder: Path
) -> Iterator[tuple[CutSpan, Path]]:
    """Write the packets of each run to its own file, in one pass; runs do not overlap."""
    waiting = sorted(runs, key=lambda span: runs[span].start)
    if not waiting:
        return
    with av.open(str(path), metadata_errors="replace") as container:
        stream = first_video(container)
        numbered = enumerate(packet for packet in container.demux(stream) if packet.size)
        for span in waiting:
            file, run = folder / _file_name(span), runs[span]
            start_pts = packets[run.start].pts
            with av.open(str(file), "w") as target:
                copy = target.add_stream_from_template(stream)
                for place, packet in numbered:
                    if place in run:
                        packet.pts, packet.dts = packet.pts - start_pts, packet.dts - start_pts
                        packet.stream = copy
                        target.mux(packet)
                    if place >= run.stop - 1:
                        break
            yield span, file


def _copy_problem(file: Path, num_frames: int) -> str | None:
    """Return what is wrong with a copied file, None if it decodes to `num_frames` whole frames."""
    seen = StreamSeen()
    try:
        with av.open(str(file)) as container:
            found = sum(1 for _ in iter_frames(container, first_video(container), seen))
    except (Rejected, av.error.FFmpegError) as fault:
        return f"the copy cannot be read ({fault})"
    if found != num_frames or seen.decode_errors or seen.demux_error:
        return f"the copy has {found} of {num_frames} frames and {seen.decode_errors} faults"
    return None


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
            frames = enumerate(iter_frames(container, stream, StreamSeen()))
            while waiting:
                problem = _encode_span(frames, waiting[0], stream, folder / _file_name(waiting[0]))
                span = waiting.pop(0)
                if problem is None:
                    yield ShotFile(span.shot_id, "transcode", _file_name(span), reasons[span])
                else:
                    yield ShotFile(span.shot_id, "failed", None, problem)
    except (Rejected, av.error.FFmpegError) as fault:
        for span in waiting:
            yield ShotFile(span.shot_id, "failed", None, str(fault))


def _encode_span(
    frames: Iterator[tuple[int, VideoFrame]], span: CutSpan, stream: VideoStream, file: Path
) -> str | None:
    """Encode the frames of `span`; return what was wrong, None if all arrived."""
    wanted = span.end_frame - span.start_frame
    with contextlib.closing(_ShotFileWriter(file, stream, span.bars)) as writer:
        for number, frame in frames:
            if number >= span.start_frame:
                writer.write(frame)
            if number >= span.end_frame - 1:
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
        self._first_pts = 0
        self._last_pts = -1
        self.num_frames = 0

    def write(self, frame: VideoFrame) -> None:
        """Append a frame; the first one sets the size."""
        picture = _upright_even(frame, self._bars)
        stream = self._stream or self._open(picture, frame)
        if (picture.width, picture.height) != (stream.width, stream.height):
            picture = picture.reformat(width=stream.width, height=stream.height)
        pts = self._last_pts + 1 if frame.pts is None else frame.pts - self._first_pts
        self._last_pts = picture.pts = max(pts, self._last_pts + 1)
        picture.time_base = stream.codec_context.time_base
        picture.pict_type = PictureType.NONE  # the encoder chooses
        self._target.mux(stream.encode(picture))
        self.num_frames += 1

    def _open(self, picture: VideoFrame, frame: VideoFrame) -> VideoStream:
        rate = Fraction(self._source.average_rate or self._source.guessed_rate or 24)
        stream: VideoStream = self._target.add_stream("libx264", rate=rate, options=ENCODER_OPTIONS)
        stream.width, stream.height = picture.width, picture.height
        stream.pix_fmt = "yuv420p"
        self._first_pts = frame.pts or 0
        context = stream.codec_context
        context.thread_count = 1
        context.time_base = frame.time_base or self._source.time_base or Fraction(1, 1000)
        context.color_range = ColorRange.MPEG
        context.colorspace = picture.colorspace
        context.color_primaries, context.color_trc = picture.color_primaries, picture.color_trc
        ratio = Fraction(self._source.sample_aspect_ratio or 1) or Fraction(1)
        context.sample_aspect_ratio = 1 / ratio if round(frame.rotation / 90) % 2 else ratio
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
