"""From frames to what is known of them: drives the detector, harvests keyframes and measures, in
one pass.

Knows nothing of files or decoding; keyframes leave through a callback as they are found, so memory
hardly grows with the video: some twenty bytes a frame.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.curation.analysis.frame_sampling import BATCH_FRAMES, GridSampler, Thumbnailer
from pipelines.curation.analysis.keyframes import (
    Candidate,
    KeyframeHarvest,
    colour_histogram,
    encode_jpeg,
    fingerprint,
    miniature,
    spread_evenly,
    text_area,
)
from pipelines.curation.analysis.shot_spans import ShotSpan, ShotSpans
from pipelines.curation.config import DecodeConfig, DetectorConfig, KeyframeConfig
from pipelines.curation.detectors.base import (
    GRID_HEIGHT,
    GRID_WIDTH,
    SmallFrames,
    Transition,
    make_detector,
)
from pipelines.curation.ids import keyframe_uri, shot_id

DEFAULT_FPS = 25.0
_WHOLE = range(sys.maxsize)


@dataclass(frozen=True)
class AnalyzeSettings:
    """What decides the content of a row."""

    decode: DecodeConfig
    detector: DetectorConfig
    keyframes: KeyframeConfig
    detector_hash: str


@dataclass(frozen=True)
class KeptPicture:
    """A keyframe that was stored, and what was measured of it."""

    frame: int
    time_s: float
    sha256: str
    width: int
    height: int
    fingerprint: bytes
    colours: NDArray[np.float32]
    text_area: float | None
    """None where only another picture of the shot is asked for it."""


@dataclass
class Watched:
    """What is known of the frames `[first, first + num_frames)` of a video."""

    first: int
    rotation: int = 0
    pixel_format: str | None = None
    times: array[float] = field(default_factory=lambda: array("d"))
    motion: array[float] = field(default_factory=lambda: array("f"))
    luma: array[float] = field(default_factory=lambda: array("f"))
    contrast: array[float] = field(default_factory=lambda: array("f"))
    transitions: list[Transition] = field(default_factory=list)
    pictures: list[KeptPicture] = field(default_factory=list)

    @property
    def num_frames(self) -> int:
        """How many frames were seen."""
        return len(self.times)

    def only(self, own: range) -> Watched:
        """Return what is known of the frames `own`; a transition belongs to where it starts."""
        kept = slice(own.start - self.first, own.stop - self.first)
        return Watched(
            first=own.start,
            rotation=self.rotation,
            pixel_format=self.pixel_format,
            times=self.times[kept],
            motion=self.motion[kept],
            luma=self.luma[kept],
            contrast=self.contrast[kept],
            transitions=[t for t in self.transitions if t.start_frame in own],
            pictures=[p for p in self.pictures if p.frame in own],
        )

    def extend(self, later: Watched) -> None:
        """Add what is known of the frames that follow; ValueError if they do not."""
        if later.first != self.first + self.num_frames:
            raise ValueError(
                f"frame {later.first} does not follow frame {self.first + self.num_frames - 1}"
            )
        for name in ("times", "motion", "luma", "contrast", "transitions", "pictures"):
            getattr(self, name).extend(getattr(later, name))


class ShotTracker:
    """Takes frames in order, from index `first` on; of those not in `own` no picture is kept."""

    def __init__(
        self,
        settings: AnalyzeSettings,
        *,
        fps: float,
        pixel_format: str | None,
        sample_aspect_ratio: float,
        on_keyframe: Callable[[str, bytes], None],
        first: int = 0,
        own: range = _WHOLE,
    ) -> None:
        self.watched = Watched(first, pixel_format=pixel_format)
        self._own = own
        self._settings = settings
        self._fps = fps
        self._on_keyframe = on_keyframe
        self._sample_aspect_ratio = sample_aspect_ratio
        self._sampler = GridSampler()
        self._thumbnailer = Thumbnailer(settings.keyframes.max_side_px)
        self._detector = make_detector(settings.detector.kind, settings.detector.options, fps=fps)
        self._spans = ShotSpans(settings.detector.min_shot_frames, first=first)
        self._harvest = KeyframeHarvest(
            per_shot=settings.keyframes.per_shot,
            every_frames=round(fps * settings.keyframes.every_s),
            max_delay=self._detector.max_delay + BATCH_FRAMES,
        )
        self._previous: NDArray[np.uint8] | None = None
        cells = GRID_WIDTH * GRID_HEIGHT
        self._mean = np.full(cells, 1.0 / cells, np.float32)

    @property
    def next_frame(self) -> int:
        """The index of the frame that comes next."""
        return self.watched.first + self.watched.num_frames

    def take(self, frame: Any) -> None:
        """Feed one decoded frame to the detector, the harvest and the measurements."""
        index = self.next_frame
        time_s = float(frame.time) if frame.time is not None else index / self._fps
        if not self.watched.num_frames:
            self.watched.rotation = frame.rotation
            self.watched.pixel_format = frame.format.name
        self.watched.times.append(time_s)
        self._sampler.add(frame)
        if self._harvest.wants(index):
            small = self._thumbnailer.scaled(frame, sample_aspect_ratio=self._sample_aspect_ratio)
            draw = partial(self._thumbnailer.upright, small, rotation=frame.rotation)
            self._harvest.offer(Candidate(index, time_s, draw))
        if self._sampler.num_frames == BATCH_FRAMES:
            self._judge()

    def finish(self, *, is_end: bool = True) -> Watched:
        """Close the last shot and return all that is known; `is_end`: the video ends here."""
        if self._sampler.num_frames:
            self._judge()
        if is_end:
            self._note(self._detector.finish())
        if last := self._spans.finish(self.next_frame):
            self._keep(last)
        return self.watched

    def _judge(self) -> None:
        """Measure the frames sampled since the last time and show them to the detector."""
        planes = self._sampler.take()
        self._measure(planes[:, 0])
        first = self.next_frame - len(planes)
        self._note(
            self._detector.update(SmallFrames(first, self.watched.times[-len(planes) :], planes))
        )

    def _measure(self, luma: NDArray[np.uint8]) -> None:
        frames = np.ascontiguousarray(luma).reshape(len(luma), -1)  # [B, cells]
        before = frames[:1] if self._previous is None else self._previous
        self._previous = frames[-1:]
        steps = cv2.absdiff(frames, np.concatenate([before, frames[:-1]]))
        levels = frames.astype(np.float32)
        means = levels @ self._mean
        self.watched.motion.extend((steps.astype(np.float32) @ self._mean).tolist())
        levels -= means[:, None]
        deviations = np.sqrt(np.einsum("bn,bn->b", levels, levels) / levels.shape[1])
        self.watched.luma.extend(means.tolist())
        self.watched.contrast.extend(deviations.tolist())

    def _note(self, transitions: Sequence[Transition]) -> None:
        self.watched.transitions += transitions
        for transition in transitions:
            if span := self._spans.take(transition, self.next_frame):
                self._keep(span)

    def _keep(self, span: ShotSpan) -> None:
        chosen = self._harvest.close(
            start_frame=span.content_start, end_frame=span.content_end, next_frame=span.next_start
        )
        for place, candidate in enumerate(chosen):
            if candidate.frame not in self._own:
                continue
            picture = candidate.picture()
            jpeg = encode_jpeg(picture, self._settings.keyframes.jpeg_quality)
            sha256 = hashlib.sha256(jpeg).hexdigest()
            self._on_keyframe(sha256, jpeg)
            height, width = picture.shape[:2]
            mini = miniature(picture)
            # Text is read in a shot's middle picture; in a part of a video any may become that.
            asked = place == len(chosen) // 2 or self._own != _WHOLE
            self.watched.pictures.append(
                KeptPicture(
                    candidate.frame, candidate.time_s, sha256, width, height,
                    fingerprint(mini), colour_histogram(mini),
                    text_area(picture) if asked else None,
                )
            )  # fmt: skip


def shots_of(
    watched: Watched, settings: AnalyzeSettings, *, video: str, fps: float
) -> list[dict[str, Any]]:
    """Return the shots of a whole video, as fields of its row, in order."""
    spans = ShotSpans(settings.detector.min_shot_frames)
    found = [spans.take(transition, watched.num_frames) for transition in watched.transitions]
    found.append(spans.finish(watched.num_frames))
    return [
        _shot(span, index, watched, settings, video, fps)
        for index, span in enumerate(span for span in found if span is not None)
    ]


def end_s(watched: Watched, fps: float) -> float:
    """Return the time at which the last frame ends."""
    return float(watched.times[-1]) + 1.0 / fps if watched.num_frames else 0.0


def _shot(
    span: ShotSpan, index: int, watched: Watched, settings: AnalyzeSettings, video: str, fps: float
) -> dict[str, Any]:
    content = slice(span.content_start, span.content_end)
    inside = [p for p in watched.pictures if span.content_start <= p.frame < span.content_end]
    pictures = spread_evenly(
        inside, settings.keyframes.per_shot, start=span.content_start, end=span.content_end
    )
    middle = pictures[len(pictures) // 2] if pictures else None
    has_next = span.end < watched.num_frames
    return {
        "shot_id": shot_id(video, span.start, span.end, settings.detector_hash),
        "index": index,
        "start_frame": span.start,
        "end_frame": span.end,
        "content_start_frame": span.content_start,
        "content_end_frame": span.content_end,
        "start_s": watched.times[span.start],
        "end_s": watched.times[span.end] if has_next else end_s(watched, fps),
        "transition_in": {
            "kind": "start" if span.is_first else span.opening.kind,
            "start_frame": span.opening.start_frame,
            "end_frame": span.opening.end_frame,
            "score": span.opening.score,
        },
        # The step into the shot's first frame belongs to the cut, not to the shot.
        "motion": _mean(watched.motion[span.content_start + 1 : span.content_end]),
        "luma": _mean(watched.luma[content]),
        "contrast": _mean(watched.contrast[content]),
        "text_area": middle.text_area if middle is not None else 0.0,
        "fingerprint": [picture.fingerprint for picture in pictures],
        "colours": _unit_mean([picture.colours for picture in pictures]),
        "keyframes": [
            {
                "frame": picture.frame,
                "time_s": picture.time_s,
                "uri": keyframe_uri(picture.sha256),
                "sha256": picture.sha256,
                "width": picture.width,
                "height": picture.height,
            }
            for picture in pictures
        ],
        "embedding": None,
    }


def _unit_mean(rows: list[NDArray[np.float32]]) -> list[float] | None:
    if not rows:
        return None
    mean = np.mean(rows, axis=0)
    unit: list[float] = (mean / np.linalg.norm(mean)).tolist()
    return unit


def _mean(values: array[float]) -> float:
    return float(np.mean(np.frombuffer(values, np.float32))) if len(values) else 0.0
