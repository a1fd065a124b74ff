"""Reading and writing video files, and conversion between uint8 pixels and tensors.

F frames, H x W pixels. Files and arrays hold uint8 RGB [F, H, W, 3]; models hold
[B, 3, F, H, W] in [-1, 1]. Frame numbers count decoded frames of the first video stream.
Knows nothing about shots or models.
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Self

import av
import cv2
import numpy as np
import torch
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from numpy.typing import NDArray

from fw_model.errors import MediaError, StorageError
from fw_model.media.deinterlace import FieldOrder, deinterlaced
from fw_model.media.frame_times import FrameClock, TimeBreaks, packet_ticks
from fw_model.media.images import read_image as read_image  # exported with the video functions

logger = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
VideoSource = str | Path | BinaryIO


@dataclass(frozen=True)
class VideoInfo:
    """What the headers of a file say; width and height are upright, after `rotation`.

    `num_frames_header` is None if the header has none, and may be wrong. `duration_s` is None for
    files without one. `rotation` is in degrees, clockwise.
    """

    has_video: bool
    width: int = 0
    height: int = 0
    fps: Fraction = Fraction(0)
    num_frames_header: int | None = None
    duration_s: float | None = None
    codec: str = ""
    container: str = ""
    rotation: int = 0
    pix_fmt: str = ""
    sample_aspect_ratio: Fraction = Fraction(1)


def probe(source: VideoSource) -> VideoInfo:
    """Read the headers and decode one frame (for the rotation); MediaError if damaged."""
    with _opened(source) as container:
        duration_s = container.duration / av.time_base if container.duration else None
        stream = _video_stream(container)
        if stream is None:
            return VideoInfo(
                has_video=False, container=container.format.name, duration_s=duration_s
            )
        frame = next(_decoded(container, stream, source), None)
        if frame is None:
            raise MediaError(f"{_name(source)} has a video stream but no frame can be decoded.")
        turned = frame.rotation % 180 != 0
        if stream.duration and stream.time_base:
            duration_s = float(stream.duration * stream.time_base)
        return VideoInfo(
            has_video=True,
            width=frame.height if turned else frame.width,
            height=frame.width if turned else frame.height,
            fps=Fraction(stream.average_rate or stream.guessed_rate or 0),
            num_frames_header=stream.frames or None,
            duration_s=duration_s,
            codec=stream.codec_context.name,
            container=container.format.name,
            rotation=-frame.rotation % 360,
            pix_fmt=frame.format.name,
            sample_aspect_ratio=Fraction(stream.sample_aspect_ratio or 1) or Fraction(1),
        )


def packet_times(source: VideoSource) -> list[float]:
    """Return the times of the frames that are shown, in order, seconds, without decoding.

    Empty if a frame's packet has no time.
    """
    with _opened(source) as container, contextlib.suppress(FFmpegError):
        stream = _video_stream(container)
        if stream is None or not stream.time_base:
            return []
        stamps: list[tuple[int, int | None]] = []
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                if packet.pts is None:
                    return []
                stamps.append((packet.pts, packet.dts))
        name, fps = container.format.name, float(stream.average_rate or 25)
        clock = FrameClock(name, stream.time_base, fps)
        ticks = packet_ticks(stamps, clock, TimeBreaks(name, stream.time_base, fps))
        tick_s = float(stream.time_base)
        return [tick * tick_s for tick in sorted(ticks)]
    return []


def iter_frames(
    source: VideoSource,
    *,
    size: tuple[int, int] | None = None,
    skip_damaged: bool = False,
    field_orders: Mapping[int, FieldOrder] = MappingProxyType({}),
) -> Iterator[Pixels]:
    """Yield upright frames [H, W, 3], scaled to `size` (width, height) if given.

    Frames with a number in `field_orders` are deinterlaced.

    Raises MediaError at the first damaged frame. With `skip_damaged`, damaged frames are left out
    instead, which is how curation counts frames.
    """
    with _opened(source) as container:
        stream = _video_stream(container)
        if stream is None:
            raise MediaError(f"{_name(source)} has no video stream.")
        decoded = _undamaged if skip_damaged else _decoded
        frames = enumerate(decoded(container, stream, source))
        for frame in deinterlaced((frame, field_orders.get(number)) for number, frame in frames):
            yield _frame_pixels(frame, size)


def read_frames(
    source: VideoSource,
    *,
    start: int = 0,
    stop: int | None = None,
    size: tuple[int, int] | None = None,
) -> Pixels:
    """Return frames [start, stop) as [F, H, W, 3]; MediaError if the file ends before `stop`."""
    if start < 0 or (stop is not None and stop <= start):
        raise MediaError(
            f"Invalid frame range [{start}, {stop}) for {_name(source)}; need 0 <= start < stop."
        )
    with _opened(source) as container:
        stream = _video_stream(container)
        if stream is None:
            raise MediaError(f"{_name(source)} has no video stream.")
        decoded = islice(_decoded(container, stream, source), start, stop)
        frames = [_frame_pixels(frame, size) for frame in decoded]
    if not frames or (stop is not None and len(frames) < stop - start):
        found = start + len(frames) if frames else f"at most {start}"
        raise MediaError(
            f"{_name(source)} has {found} frames, but [{start}, {stop}) was requested."
        )
    return np.stack(frames)


class VideoWriter:
    """Writes H.264 (yuv420p, MP4) frame by frame; the file appears whole or not at all.

    The first frame sets the size. Odd sizes are padded by repeating the last column or row,
    because yuv420p needs even ones.
    """

    def __init__(
        self, path: str | Path, *, fps: float | Fraction, crf: int = 18, preset: str = "medium"
    ) -> None:
        self._path = Path(path)
        self._fps = Fraction(fps).limit_denominator(1001)
        if self._fps <= 0:
            raise MediaError(f"A video needs a frame rate above 0, not {fps}.")
        # On processors with AVX-512, x264's mbtree reads uninitialised memory, and the same frames
        # give different files. Without it they give the same file.
        self._options = {"crf": str(crf), "preset": preset, "x264-params": "mbtree=0"}
        self._temporary = self._path.with_name(f".{self._path.stem}.{uuid.uuid4().hex}.mp4")
        self._container: Any = None
        self._stream: Any = None
        self._shape: tuple[int, ...] | None = None

    def __enter__(self) -> Self:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary.touch()
            options = {"movflags": "+faststart"}
            self._container = av.open(str(self._temporary), "w", options=options)
        except (OSError, FFmpegError) as error:
            self._discard()
            raise StorageError(f"Cannot write {self._path}: {error}.") from error
        return self

    def write(self, frames: Pixels) -> None:
        """Append one frame [H, W, 3] or several [F, H, W, 3]."""
        several = frames[None] if frames.ndim == 3 else frames
        if several.ndim != 4 or several.shape[-1] != 3 or several.dtype != np.uint8:
            raise MediaError(
                f"Frames to write must be uint8 [F, H, W, 3], not {frames.dtype} {frames.shape}."
            )
        for frame in several:
            self._write_one(frame)

    def _write_one(self, frame: Pixels) -> None:
        if self._shape is None:
            self._shape = frame.shape
            self._add_stream(height=frame.shape[0], width=frame.shape[1])
        if frame.shape != self._shape:
            raise MediaError(f"A frame of {frame.shape} cannot follow frames of {self._shape}.")
        padding = ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0))
        even = np.pad(frame, padding, mode="edge")
        try:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            for packet in self._stream.encode(picture):
                self._container.mux(packet)
        except (OSError, FFmpegError) as error:
            raise StorageError(f"Cannot write {self._path}: {error}.") from error

    def _add_stream(self, *, height: int, width: int) -> None:
        self._stream = self._container.add_stream("libx264", rate=self._fps, options=self._options)
        self._stream.width = width + width % 2
        self._stream.height = height + height % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._discard()
            return
        if self._stream is None:
            self._discard()
            raise MediaError(f"No frames were written to {self._path}.")
        try:
            for packet in self._stream.encode():
                self._container.mux(packet)
            self._container.close()
            os.replace(self._temporary, self._path)
        except (OSError, FFmpegError) as failure:
            self._discard()
            raise StorageError(f"Cannot write {self._path}: {failure}.") from failure

    def _discard(self) -> None:
        if self._container is not None:
            with contextlib.suppress(OSError, FFmpegError):  # only to free it
                self._container.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink()


def write_video(
    path: str | Path,
    frames: Pixels | Iterable[Pixels],
    *,
    fps: float | Fraction,
    crf: int = 18,
    preset: str = "medium",
) -> Path:
    """Write frames [F, H, W, 3], or an iterable of [H, W, 3], as an H.264 MP4 file."""
    with VideoWriter(path, fps=fps, crf=crf, preset=preset) as writer:
        for frame in frames:
            writer.write(frame)
    return Path(path)


def uint8_to_frames(pixels: Pixels) -> torch.Tensor:
    """Return uint8 [F, H, W, 3] as float32 [1, 3, F, H, W] in [-1, 1]."""
    if pixels.ndim != 4 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8:
        raise MediaError(f"Expected uint8 [F, H, W, 3], got {pixels.dtype} {pixels.shape}.")
    frames = torch.from_numpy(np.ascontiguousarray(pixels)).permute(3, 0, 1, 2)  # [3, F, H, W]
    return (frames.to(torch.float32) / 127.5 - 1.0)[None]  # [1, 3, F, H, W]


def frames_to_uint8(frames: torch.Tensor) -> Pixels:
    """Return [3, F, H, W] or [1, 3, F, H, W] in [-1, 1] as uint8 [F, H, W, 3], clamped."""
    if frames.ndim == 5 and frames.shape[0] == 1:
        frames = frames[0]
    if frames.ndim != 4 or frames.shape[0] != 3:
        raise MediaError(f"Expected frames [1, 3, F, H, W], got {list(frames.shape)}.")
    pixels = ((frames.detach().to(torch.float32) + 1.0) * 127.5).round().clamp(0, 255)
    array: Pixels = pixels.to(torch.uint8).permute(1, 2, 3, 0).contiguous().cpu().numpy()
    return array  # [F, H, W, 3]


def resize_frames(pixels: Pixels, *, width: int, height: int) -> Pixels:
    """Scale uint8 [F, H, W, 3], or one [H, W, 3], to a size; the aspect ratio may change."""
    if pixels.ndim == 4:
        return np.stack([resize_frames(frame, width=width, height=height) for frame in pixels])
    if pixels.shape[:2] == (height, width):
        return pixels
    smaller = width * height < pixels.shape[0] * pixels.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    resized: Pixels = np.asarray(
        cv2.resize(pixels, (width, height), interpolation=method), np.uint8
    )
    return resized


def _opened(source: VideoSource) -> InputContainer:
    # An absolute path: FFmpeg takes "name:rest" for a protocol and "-x" for an option.
    target = os.path.abspath(source) if isinstance(source, str | Path) else source
    if isinstance(target, str) and not os.path.isfile(target):
        raise MediaError(f"There is no file {source}.")
    try:
        container: InputContainer = av.open(target, metadata_errors="replace")
    except (OSError, FFmpegError, ValueError) as error:
        raise MediaError(f"{_name(source)} is not a video or is damaged: {error}.") from error
    return container


def _video_stream(container: InputContainer) -> VideoStream | None:
    """Return the first video stream that is not a cover picture, or None."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            # One thread: many files are decoded at once, and more threads would only add load.
            stream.thread_type = "NONE"
            stream.codec_context.thread_count = 1
            return stream
    return None


def _decoded(
    container: InputContainer, stream: VideoStream, source: VideoSource
) -> Iterator[av.VideoFrame]:
    number = 0
    try:
        for frame in container.decode(stream):
            yield frame
            number += 1
    except (OSError, FFmpegError, ValueError) as error:
        raise MediaError(
            f"{_name(source)} cannot be decoded at frame {number}: {error}."
        ) from error


def _undamaged(
    container: InputContainer, stream: VideoStream, source: VideoSource
) -> Iterator[av.VideoFrame]:
    with contextlib.suppress(FFmpegError):  # the file is truncated
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except FFmpegError as fault:
                logger.debug("%s: skipped a damaged packet (%s)", _name(source), fault)
                continue
            yield from frames


def _frame_pixels(frame: av.VideoFrame, size: tuple[int, int] | None) -> Pixels:
    quarter_turns = round(frame.rotation / 90) % 4
    if size is not None:
        width, height = size if quarter_turns % 2 == 0 else size[::-1]
        frame = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
    pixels: Pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns)) if quarter_turns else pixels


def _name(source: VideoSource) -> str:
    if isinstance(source, str | Path):
        return str(source)
    return str(getattr(source, "name", "The video"))
