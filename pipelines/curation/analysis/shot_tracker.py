"""Turns decoded frames into shots: runs the detector, selects keyframes and measures, in one pass.

Knows nothing about files or decoding. Keyframes leave through a callback as they are found, so
memory hardly grows with the video: about twenty bytes per frame.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from fw_model.media.frame_times import FrameClock
from fw_model.schemas.curated_rows import MeasuredShotRow
from pipelines.curation.analysis.bars import (
    NO_BARS,
    Bars,
    crop,
    find_bars,
    find_dark_bars,
    shared_bars,
)
from pipelines.curation.analysis.frame_sampling import (
    BATCH_FRAMES,
    GridSampler,
    Thumbnailer,
    is_full_range,
    upright,
)
from pipelines.curation.analysis.interlacing import field_order
from pipelines.curation.analysis.keyframes import (
    Candidate,
    KeyframeSelector,
    colour_histogram,
    encode_jpeg,
    fingerprint,
    miniature,
    spread_evenly,
    text_area,
)
from pipelines.curation.analysis.shot_spans import DetectedShot, ShotSplitter
from pipelines.curation.config import DecodeConfig, DetectorConfig, KeyframeConfig
from pipelines.curation.detectors.base import (
    GRID_HEIGHT,
    GRID_WIDTH,
    SmallFrames,
    Transition,
    make_detector,
)
from pipelines.curation.ids import keyframe_uri, shot_id

WHOLE_VIDEO = range(sys.maxsize)

OnKeyframe = Callable[[str, bytes], None]
"""Called with the SHA-256 and the JPEG of a keyframe."""


@dataclass(frozen=True)
class AnalyzeSettings:
    """The settings that decide what a row contains."""

    decode: DecodeConfig
    detector: DetectorConfig
    keyframes: KeyframeConfig
    detector_hash: str


@dataclass(frozen=True)
class StoredKeyframe:
    """A keyframe that was stored, and what was measured of its picture."""

    frame: int
    time_s: float
    sha256: str
    width: int
    height: int
    fingerprint: bytes
    colours: NDArray[np.float32]
    text_area: float | None
    """None if another keyframe of the shot is the one searched for text."""
    bars: Bars = NO_BARS
    """What was cropped off the frame."""


@dataclass
class VideoMeasurements:
    """Everything measured of the frames `[first, first + num_frames)` of a video."""

    first: int
    rotation: int = 0
    pixel_format: str | None = None
    times: array[float] = field(default_factory=lambda: array("d"))
    motion: array[float] = field(default_factory=lambda: array("f"))
    luma: array[float] = field(default_factory=lambda: array("f"))
    contrast: array[float] = field(default_factory=lambda: array("f"))
    fields: array[int] = field(default_factory=lambda: array("b"))
    """What interlacing.py records of each frame."""
    transitions: list[Transition] = field(default_factory=list)
    keyframes: list[StoredKeyframe] = field(default_factory=list)

    @property
    def num_frames(self) -> int:
        """The number of frames measured."""
        return len(self.times)

    def only(self, own: range) -> VideoMeasurements:
        """Return the measurements of the frames `own`; a transition belongs to its start frame."""
        kept = slice(own.start - self.first, own.stop - self.first)
        return VideoMeasurements(
            first=own.start,
            rotation=self.rotation,
            pixel_format=self.pixel_format,
            times=self.times[kept],
            motion=self.motion[kept],
            luma=self.luma[kept],
            contrast=self.contrast[kept],
            fields=self.fields[kept],
            transitions=[t for t in self.transitions if t.start_frame in own],
            keyframes=[k for k in self.keyframes if k.frame in own],
        )

    def extend(self, later: VideoMeasurements) -> None:
        """Add the measurements of the frames that follow; ValueError if they do not follow."""
        if later.first != self.first + self.num_frames:
            raise ValueError(
                f"frame {later.first} does not follow frame {self.first + self.num_frames - 1}"
            )
        for name in ("times", "motion", "luma", "contrast", "fields", "transitions", "keyframes"):
            getattr(self, name).extend(getattr(later, name))


class ShotTracker:
    """Takes frames in order from index `first` on; stores the keyframes among `own` only."""

    def __init__(
        self,
        settings: AnalyzeSettings,
        *,
        clock: FrameClock,
        fps: float,
        pixel_format: str | None,
        sample_aspect_ratio: float,
        on_keyframe: OnKeyframe,
        first: int = 0,
        own: range = WHOLE_VIDEO,
    ) -> None:
        self.measured = VideoMeasurements(first, pixel_format=pixel_format)
        self._own = own
        self._settings = settings
        self._clock = clock
        self._on_keyframe = on_keyframe
        self._sample_aspect_ratio = sample_aspect_ratio
        self._sampler = GridSampler()
        self._thumbnailer = Thumbnailer(settings.keyframes.max_side_px)
        self._detector = make_detector(settings.detector.kind, settings.detector.options, fps=fps)
        self._splitter = ShotSplitter(settings.detector.min_shot_frames, first=first)
        self._selector = KeyframeSelector(
            per_shot=settings.keyframes.per_shot,
            every_frames=round(fps * settings.keyframes.every_s),
            max_delay=self._detector.max_delay + BATCH_FRAMES,
        )
        self._previous: NDArray[np.uint8] | None = None
        self._size = (1, 1)
        self._is_full_range = False
        cells = GRID_WIDTH * GRID_HEIGHT
        self._mean = np.full(cells, 1.0 / cells, np.float32)

    @property
    def next_frame(self) -> int:
        """The index of the frame that comes next."""
        return self.measured.first + self.measured.num_frames

    def take(self, frame: VideoFrame) -> None:
        """Sample one decoded frame; full batches go to the detector and the measurements."""
        index = self.next_frame
        time_s = self._clock.time_s(frame.pts, frame.dts)
        if not self.measured.num_frames:
            self.measured.rotation = frame.rotation
            self.measured.pixel_format = frame.format.name
            self._is_full_range = is_full_range(frame)
        self.measured.times.append(time_s)
        self._sampler.add(frame)
        if self._selector.wants(index):
            small = self._thumbnailer.scaled(frame, sample_aspect_ratio=self._sample_aspect_ratio)
            size = (frame.width, frame.height)
            render = partial(self._picture, small, size=size, rotation=frame.rotation)
            bars = find_bars(frame) if self._settings.keyframes.crop_bars else NO_BARS
            self._selector.offer(Candidate(index, time_s, render, bars))
            self._size = size
        if self._sampler.num_frames == BATCH_FRAMES:
            self._process_batch()

    def finish(self, fields: array[int], *, is_end: bool = True) -> VideoMeasurements:
        """Close the last shot and return all measurements with the `fields` of the frames;
        `is_end`: the video ends here."""
        self.measured.fields = fields
        if self._sampler.num_frames:
            self._process_batch()
        if is_end:
            self._close_shots(self._detector.finish())
        if last := self._splitter.finish(self.next_frame):
            self._store_keyframes(last)
        return self.measured

    def _process_batch(self) -> None:
        """Measure the frames sampled since the last batch and run the detector on them."""
        planes = self._sampler.take()
        self._measure(planes[:, 0])
        first = self.next_frame - len(planes)
        batch = SmallFrames(first, self.measured.times[-len(planes) :], planes)
        self._close_shots(self._detector.update(batch))

    def _measure(self, luma: NDArray[np.uint8]) -> None:
        frames = np.ascontiguousarray(luma).reshape(len(luma), -1)  # [B, cells]
        before = frames[:1] if self._previous is None else self._previous
        self._previous = frames[-1:]
        steps = cv2.absdiff(frames, np.concatenate([before, frames[:-1]]))
        motions = cv2.reduce(steps, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0] / frames.shape[1]
        levels = frames.astype(np.float32)
        means = levels @ self._mean
        levels -= means[:, None]
        deviations = np.sqrt(np.einsum("bn,bn->b", levels, levels) / levels.shape[1])
        if self._settings.keyframes.crop_bars:
            for i, inside in find_dark_bars(luma):  # few videos have bars
                picture = luma[i][inside].astype(np.float32)
                means[i], deviations[i] = picture.mean(), picture.std()
                motions[i] = steps[i].reshape(luma.shape[1:])[inside].mean()
        if not self._is_full_range:  # black is 16 and white is 235
            means = np.clip((means - 16.0) * (255.0 / 219.0), 0.0, 255.0)
        self.measured.motion.extend(motions.tolist())
        self.measured.luma.extend(means.tolist())
        self.measured.contrast.extend(deviations.tolist())

    def _close_shots(self, transitions: Sequence[Transition]) -> None:
        self.measured.transitions += transitions
        for transition in transitions:
            if shot := self._splitter.take(transition, self.next_frame):
                self._store_keyframes(shot)

    def _picture(
        self, small: VideoFrame, bars: Bars, *, size: tuple[int, int], rotation: int
    ) -> NDArray[np.uint8]:
        """Return a scaled frame without bars, upright; `size` is that of the frame as stored."""
        picture = self._thumbnailer.rendered(small)
        cropped = crop(picture, bars, width=size[0], height=size[1])
        return upright(cropped, rotation)

    def _store_keyframes(self, shot: DetectedShot) -> None:
        chosen, candidates = self._selector.select(
            start_frame=shot.content_start, end_frame=shot.content_end, next_frame=shot.next_start
        )
        width, height = self._size
        bars = shared_bars((c.bars for c in candidates), width=width, height=height)
        for place, candidate in enumerate(chosen):
            if candidate.frame in self._own:
                # Only a shot's middle keyframe is searched for text. In a part of a video any
                # keyframe may become the middle one.
                is_searched = place == len(chosen) // 2 or self._own != WHOLE_VIDEO
                self._store(candidate, bars, search_text=is_searched)

    def _store(self, candidate: Candidate, bars: Bars, *, search_text: bool) -> None:
        picture = candidate.picture(bars)
        jpeg = encode_jpeg(picture, self._settings.keyframes.jpeg_quality)
        sha256 = hashlib.sha256(jpeg).hexdigest()
        self._on_keyframe(sha256, jpeg)
        height, width = picture.shape[:2]
        mini = miniature(picture)
        self.measured.keyframes.append(
            StoredKeyframe(
                candidate.frame, candidate.time_s, sha256, width, height,
                fingerprint(mini), colour_histogram(mini),
                text_area(picture) if search_text else None,
                bars,
            )
        )  # fmt: skip


def shot_rows(
    measured: VideoMeasurements, settings: AnalyzeSettings, *, video: str, fps: float
) -> list[MeasuredShotRow]:
    """Return the shots of a whole video, in order."""
    splitter = ShotSplitter(settings.detector.min_shot_frames)
    found = [splitter.take(transition, measured.num_frames) for transition in measured.transitions]
    found.append(splitter.finish(measured.num_frames))
    return [
        _shot_row(shot, index, measured, settings, video, fps)
        for index, shot in enumerate(shot for shot in found if shot is not None)
    ]


def end_s(measured: VideoMeasurements, fps: float) -> float:
    """Return the time at which the last frame ends."""
    return measured.times[-1] + 1.0 / fps if measured.num_frames else 0.0


def _shot_row(
    shot: DetectedShot,
    index: int,
    measured: VideoMeasurements,
    settings: AnalyzeSettings,
    video: str,
    fps: float,
) -> MeasuredShotRow:
    content = slice(shot.content_start, shot.content_end)
    inside = [k for k in measured.keyframes if shot.content_start <= k.frame < shot.content_end]
    keyframes = spread_evenly(
        inside, settings.keyframes.per_shot, start=shot.content_start, end=shot.content_end
    )
    has_next = shot.end < measured.num_frames
    return {
        "shot_id": shot_id(video, shot.start, shot.end, settings.detector_hash),
        "index": index,
        "start_frame": shot.start,
        "end_frame": shot.end,
        "content_start_frame": shot.content_start,
        "content_end_frame": shot.content_end,
        "start_s": measured.times[shot.start],
        "end_s": measured.times[shot.end] if has_next else end_s(measured, fps),
        "transition_in": {
            "kind": "start" if shot.is_first else shot.opening.kind,
            "start_frame": shot.opening.start_frame,
            "end_frame": shot.opening.end_frame,
            "score": shot.opening.score,
        },
        # The change into the shot's first frame belongs to the cut, not to the shot.
        "motion": _mean(measured.motion[shot.content_start + 1 : shot.content_end]),
        "luma": _mean(measured.luma[content]),
        "contrast": _mean(measured.contrast[content]),
        "text_area": keyframes[len(keyframes) // 2].text_area if keyframes else 0.0,
        "fingerprint": [k.fingerprint for k in keyframes],
        "colours": _unit_mean([k.colours for k in keyframes]),
        "keyframes": [
            {
                "frame": k.frame,
                "time_s": k.time_s,
                "uri": keyframe_uri(k.sha256),
                "sha256": k.sha256,
                "width": k.width,
                "height": k.height,
                "faces": None,
                "text_lines": None,
                "nsfw": None,
            }
            for k in keyframes
        ],
        "embedding": None,
        "crop": _least([k.bars for k in keyframes]).row(),
        "field_order": field_order(measured.fields[content]),
        "num_faces": None,
        "ocr_area": None,
        "subtitle_area": None,
        "nsfw": None,
        "perception_error": None,
    }


def _least(found: list[Bars]) -> Bars:
    """Return the bars that all keyframes are without: ranges of a long video may differ."""
    sides = ("top", "bottom", "left", "right")
    return Bars(*(min((getattr(bars, side) for bars in found), default=0) for side in sides))


def _unit_mean(rows: list[NDArray[np.float32]]) -> list[float] | None:
    if not rows:
        return None
    mean = np.mean(rows, axis=0)
    unit: list[float] = (mean / np.linalg.norm(mean)).tolist()
    return unit


def _mean(values: array[float]) -> float:
    return float(np.mean(np.frombuffer(values, np.float32))) if len(values) else 0.0
