"""From frames to shots: drives the detector, harvests keyframes and measures, in one pass.

Knows nothing of files or decoding; keyframes leave through a callback as they are found, so memory
does not grow with the video.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.curation_config import DecodeConfig, DetectorConfig, KeyframeConfig
from pipelines.detectors.base import SmallFrame, Transition, make_detector
from pipelines.harvest import Candidate, KeyframeHarvest, encode_jpeg, fingerprint, text_area
from pipelines.ids import keyframe_uri, shot_id
from pipelines.sampling import GridSampler, Thumbnailer
from pipelines.video_stream import StreamSeen

DEFAULT_FPS = 25.0


@dataclass(frozen=True)
class AnalyzeSettings:
    """What decides the content of a row."""

    decode: DecodeConfig
    detector: DetectorConfig
    keyframes: KeyframeConfig
    detector_hash: str


class ShotTracker:
    """Drives the detector and closes each shot when its end is certain."""

    def __init__(
        self,
        video: str,
        row: dict[str, Any],
        settings: AnalyzeSettings,
        on_keyframe: Callable[[str, bytes], None],
    ) -> None:
        self.rotation = 0
        self.pixel_format = row["pixel_format"]
        self.fps = row["fps"] if 0 < row["fps"] <= 1000 else DEFAULT_FPS
        self._video = video
        self._settings = settings
        self._on_keyframe = on_keyframe
        self._sample_aspect_ratio = row["sample_aspect_ratio"]
        self._sampler = GridSampler()
        self._thumbnailer = Thumbnailer(settings.keyframes.max_side_px)
        self._detector = make_detector(
            settings.detector.kind, settings.detector.options, fps=self.fps
        )
        self._harvest = KeyframeHarvest(
            per_shot=settings.keyframes.per_shot,
            every_frames=round(self.fps * settings.keyframes.every_s),
            max_delay=self._detector.max_delay,
        )
        self._motion, self._luma, self._contrast = array("f"), array("f"), array("f")
        self._previous: np.ndarray | None = None
        self._opened_by = Transition("cut", 0, 0, 0.0)
        self._closing: Transition | None = None
        self._shots: list[dict[str, Any]] = []

    def take(self, frame: Any, seen: StreamSeen) -> None:
        """Feed one decoded frame to the detector, the harvest and the measurements."""
        index = seen.num_frames
        seen.num_frames += 1
        time_s = float(frame.time) if frame.time is not None else index / self.fps
        seen.times.append(time_s)
        if index == 0:
            self.rotation, self.pixel_format = frame.rotation, frame.format.name
        planes = self._sampler.sample(frame)
        self._measure(planes[0])
        if self._harvest.wants(index):
            picture = self._thumbnailer.picture(
                frame, sample_aspect_ratio=self._sample_aspect_ratio, rotation=frame.rotation
            )
            self._harvest.offer(Candidate(index, time_s, picture))
        for transition in self._detector.update(SmallFrame(index, time_s, planes)):
            self._close(transition, seen)

    def finish(self, seen: StreamSeen) -> list[dict[str, Any]]:
        """Close the last shot and return all of them."""
        for transition in self._detector.finish():
            self._close(transition, seen)
        end = seen.num_frames
        self._close(Transition("cut", end, end, 0.0), seen, is_end=True)
        return self._shots

    def end_s(self, seen: StreamSeen) -> float:
        """Return the time at which the last frame ends."""
        return float(seen.times[-1]) + 1.0 / self.fps if seen.times else 0.0

    def _measure(self, luma: np.ndarray) -> None:
        if self._previous is None:
            self._motion.append(0.0)
        else:
            step = np.abs(luma.astype(np.int16) - self._previous)
            self._motion.append(float(step.mean()))
        self._luma.append(float(luma.mean()))
        self._contrast.append(float(luma.std()))
        self._previous = luma

    def _close(self, closing: Transition, seen: StreamSeen, *, is_end: bool = False) -> None:
        opening = self._opened_by
        if closing.start_frame == 0 and not self._shots and not is_end:
            self._opened_by = closing  # the video fades in: there is no shot before
            return
        if closing.end_frame >= seen.num_frames and not is_end:
            self._closing = closing  # the video fades out: there is no shot after
            return
        start = (opening.start_frame + opening.end_frame + 1) // 2 if self._shots else 0
        end = (closing.start_frame + closing.end_frame + 1) // 2
        if is_end:
            closing, end = self._closing or closing, seen.num_frames
        too_close = end - start < self._settings.detector.min_shot_frames
        if end <= start or (too_close and not is_end and closing.kind == "cut"):
            return
        content_start = max(start, opening.end_frame)
        content_end = max(content_start + 1, min(end, closing.start_frame))
        keyframes = self._harvest.close(
            start_frame=content_start, end_frame=content_end, next_frame=closing.start_frame
        )
        self._shots.append(
            self._shot(start, end, content_start, content_end, opening, keyframes, seen)
        )
        self._opened_by = closing

    def _shot(
        self,
        start: int,
        end: int,
        content_start: int,
        content_end: int,
        opening: Transition,
        keyframes: list[Candidate],
        seen: StreamSeen,
    ) -> dict[str, Any]:
        span = slice(content_start, content_end)
        middle = keyframes[len(keyframes) // 2].picture if keyframes else None
        return {
            "shot_id": shot_id(self._video, start, end, self._settings.detector_hash),
            "index": len(self._shots),
            "start_frame": start,
            "end_frame": end,
            "content_start_frame": content_start,
            "content_end_frame": content_end,
            "start_s": seen.times[start],
            "end_s": seen.times[end] if end < len(seen.times) else self.end_s(seen),
            "transition_in": {
                "kind": opening.kind if self._shots else "start",
                "start_frame": opening.start_frame,
                "end_frame": opening.end_frame,
                "score": opening.score,
            },
            # The step into the shot's first frame belongs to the cut, not to the shot.
            "motion": _mean(self._motion[content_start + 1 : content_end]),
            "luma": _mean(self._luma[span]),
            "contrast": _mean(self._contrast[span]),
            "text_area": text_area(middle) if middle is not None else 0.0,
            "fingerprint": [fingerprint(c.picture) for c in keyframes],
            "keyframes": [self._keyframe(c) for c in keyframes],
            "embedding": None,
        }

    def _keyframe(self, candidate: Candidate) -> dict[str, Any]:
        jpeg = encode_jpeg(candidate.picture, self._settings.keyframes.jpeg_quality)
        sha256 = hashlib.sha256(jpeg).hexdigest()
        self._on_keyframe(sha256, jpeg)
        height, width = candidate.picture.shape[:2]
        return {
            "frame": candidate.frame,
            "time_s": candidate.time_s,
            "uri": keyframe_uri(sha256),
            "sha256": sha256,
            "width": width,
            "height": height,
        }


def _mean(values: array[float]) -> float:
    return float(np.mean(np.frombuffer(values, np.float32))) if len(values) else 0.0
