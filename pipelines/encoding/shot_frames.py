"""The frames of a video's captioned shots at the model's size and rate, decoded once.

Fetches and decodes; knows nothing about models, Ray or files of the dataset.
F frames, H x W pixels.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from fw_model.errors import MediaError
from fw_model.media.deinterlace import FieldOrder, field_orders
from fw_model.media.keyframes import select_keyframe_indices
from fw_model.media.video import VideoInfo, iter_frames, packet_times, probe
from pipelines.curation.analysis.bars import NO_BARS, Bars
from pipelines.curation.analysis.video_stream import is_variable
from pipelines.storage.store import local_copy

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ShotSpan:
    """A captioned shot: source frames [start, end) in decode order, and its keyframes' frames."""

    shot_id: str
    scene_id: str
    index: int
    start: int
    end: int
    text: str
    keyframes: tuple[int, ...]
    bars: Bars = field(default=NO_BARS, repr=False)
    """The black bars to leave out."""
    field_order: FieldOrder | None = field(default=None, repr=False)
    """Which field of its frames is first; None if they are progressive."""


@dataclass(frozen=True)
class VideoSpans:
    """The captioned shots of one video, in order. `fps` 0 stands for the file's own rate."""

    video_id: str
    uri: str
    fps: float
    shots: tuple[ShotSpan, ...]
    captions_hash: str


@dataclass(frozen=True)
class FrameFormat:
    """The format that frames are converted to: size in pixels, rate, and the longest shot."""

    width: int
    height: int
    fps: float
    max_frames: int
    temporal_factor: int


@dataclass
class DecodedShot:
    """A shot's frames at the model's size and rate [F, H, W, 3], and its keyframes."""

    span: ShotSpan
    frames: list[Pixels] = field(default_factory=list)
    keyframes: list[tuple[int, Pixels]] = field(default_factory=list)


def decode_shots(video: VideoSpans, form: FrameFormat) -> Iterator[DecodedShot]:
    """Fetch and decode a video once and yield its shots as they end.

    The picture without black bars is scaled to cover the format and cropped at its centre; frames
    are taken at the format's rate, by their own times where these are uneven. StorageError if it
    cannot be fetched, MediaError if it cannot be decoded to the end.
    """
    with local_copy(video.uri) as path:
        yield from _decode_file(path, video, form)


def _decode_file(path: str, video: VideoSpans, form: FrameFormat) -> Iterator[DecodedShot]:
    info = probe(path)
    if not info.has_video:
        raise MediaError(
            f"{video.uri} has no video stream, so it changed since it was curated; curate it again."
        )
    fps = video.fps or float(info.fps) or form.fps
    crops = [upright_crop(span.bars, info) for span in video.shots]
    size = _covering_size(info, form, crops)
    times = np.asarray(packet_times(path))
    if not is_variable(array("d", times)):
        times = times[:0]
    waiting = [
        (DecodedShot(span), _wanted_frames(span, fps, form, times), _keyframes_of(span), crop)
        for span, crop in zip(video.shots, crops, strict=True)
    ]
    orders = field_orders((span.start, span.end, span.field_order) for span in video.shots)
    frames = iter_frames(path, size=size, skip_damaged=True, field_orders=orders)
    for number, frame in enumerate(frames):
        fitted: dict[UprightCrop, Pixels] = {}  # shots that share a frame may differ in bars
        for shot, wanted, keyframes, crop in waiting:
            if shot.span.start > number:
                break
            repeats = wanted.get(number, 0)
            if repeats or number in keyframes:
                if crop not in fitted:
                    fitted[crop] = _fit(frame, crop, form)
                shot.frames.extend([fitted[crop]] * repeats)
                if number in keyframes:
                    shot.keyframes.append((number, fitted[crop]))
        while waiting and waiting[0][0].span.end <= number + 1:
            yield waiting.pop(0)[0]
        if not waiting:
            return
    if waiting:
        missing = waiting[0][0].span
        raise MediaError(
            f"{video.uri} ended before frame {missing.end} of shot {missing.shot_id}, so it "
            "changed since it was curated; curate it again."
        )


@dataclass(frozen=True)
class UprightCrop:
    """The shares of an upright frame's sides that are left out."""

    top: float = 0.0
    bottom: float = 0.0
    left: float = 0.0
    right: float = 0.0


WHOLE = UprightCrop()


def upright_crop(bars: Bars, info: VideoInfo) -> UprightCrop:
    """Turn the bars of the frame as stored with the frame; `info.rotation` is clockwise."""
    is_turned = info.rotation % 180 != 0
    width, height = (info.height, info.width) if is_turned else (info.width, info.height)
    sides = [  # clockwise, from the top
        bars.top / height, bars.right / width, bars.bottom / height, bars.left / width
    ]  # fmt: skip
    turns = round(info.rotation / 90) % 4
    top, right, bottom, left = sides[-turns:] + sides[:-turns] if turns else sides
    return UprightCrop(top=top, bottom=bottom, left=left, right=right)


def _covering_size(
    info: VideoInfo, form: FrameFormat, crops: Sequence[UprightCrop] = ()
) -> tuple[int, int]:
    """Return the size at which every picture, with square pixels, covers the format."""
    ratio = float(info.sample_aspect_ratio)
    is_turned = info.rotation % 180 != 0
    width = info.width * (1.0 if is_turned else ratio)
    height = info.height * (ratio if is_turned else 1.0)
    scale = max(
        max(
            form.width / (width * (1.0 - crop.left - crop.right)),
            form.height / (height * (1.0 - crop.top - crop.bottom)),
        )
        for crop in crops or (WHOLE,)
    )
    return max(form.width, round(width * scale)), max(form.height, round(height * scale))


def _wanted_frames(
    span: ShotSpan, fps: float, form: FrameFormat, times: NDArray[np.float64]
) -> dict[int, int]:
    """Return how many times each source frame of `span` is taken to reach the format's rate.

    `times` are those of all frames, in seconds; empty if frames are evenly spaced.
    """
    if len(times) >= span.end:
        return _wanted_at(times[span.start : span.end], span.start, form)
    step = fps / form.fps
    if abs(step - 1) < 0.02:  # 23.976 for 24: a slightly different speed looks better than a jump
        step = 1.0
    count = min(form.max_frames, max(1, int((span.end - span.start) / step)))
    return Counter(min(span.end - 1, span.start + round(k * step)) for k in range(count))


def _wanted_at(own: NDArray[np.float64], start: int, form: FrameFormat) -> dict[int, int]:
    """Return, for each frame, how many of the format's frame times it is nearest to."""
    shown_s = float(own[-1] - own[0]) + float(np.median(np.diff(own)) if len(own) > 1 else 0.0)
    count = min(form.max_frames, max(1, int(shown_s * form.fps + 1e-6)))
    moments = own[0] + np.arange(count) / form.fps
    numbers = start + np.searchsorted((own[1:] + own[:-1]) / 2, moments)
    found, repeats = np.unique(numbers, return_counts=True)
    return dict(zip(found.tolist(), repeats.tolist(), strict=True))


def _keyframes_of(span: ShotSpan) -> frozenset[int]:
    inside = {f for f in span.keyframes if span.start <= f < span.end}
    middle = span.start + select_keyframe_indices(span.end - span.start, 1)[0]
    return frozenset(inside or {middle})


def _fit(frame: Pixels, crop: UprightCrop, form: FrameFormat) -> Pixels:
    """Return the picture inside `crop`, scaled down until it just covers the format, its centre."""
    height, width = frame.shape[:2]
    top, left = math.ceil(crop.top * height - 1e-6), math.ceil(crop.left * width - 1e-6)
    bottom = math.floor((1.0 - crop.bottom) * height + 1e-6)
    right = math.floor((1.0 - crop.right) * width + 1e-6)
    picture = frame[top:bottom, left:right]
    scale = max(form.width / picture.shape[1], form.height / picture.shape[0])
    size = tuple(
        max(least, round(side * scale))
        for least, side in ((form.width, picture.shape[1]), (form.height, picture.shape[0]))
    )
    if size != (picture.shape[1], picture.shape[0]):  # another shot's crop is tighter
        how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
        picture = np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)
    return _centre(picture, form)


def _centre(frame: Pixels, form: FrameFormat) -> Pixels:
    top, left = (frame.shape[0] - form.height) // 2, (frame.shape[1] - form.width) // 2
    return np.ascontiguousarray(frame[top : top + form.height, left : left + form.width])
