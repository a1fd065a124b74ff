"""One video, decoded once: its shots, what was measured of them, and their keyframes.

Runs inside the decoding child (see sandbox.py). Knows nothing of Ray, CLIP or storage: keyframes
leave through a callback as they are found, so memory does not grow with the video.

Nothing here raises for a fault of the data; the returned row carries a reason instead.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from fw_model.schema import VideoReason
from pipelines.curation_config import DecodeConfig, DetectorConfig, KeyframeConfig
from pipelines.detectors.base import SmallFrame, Transition, make_detector
from pipelines.harvest import Candidate, KeyframeHarvest, encode_jpeg, fingerprint, text_area
from pipelines.sampling import GridSampler, Thumbnailer

# Raise this when the same settings begin to give other rows: finished rows are then made again.
ANALYZE_VERSION = 1
FRAMES_PER_HEARTBEAT = 48
DEFAULT_FPS = 25.0


@dataclass(frozen=True)
class AnalyzeSettings:
    """What decides the content of a row."""

    decode: DecodeConfig
    detector: DetectorConfig
    keyframes: KeyframeConfig
    detector_hash: str


class _Rejected(Exception):
    """This video is not to be kept."""

    def __init__(self, reason: VideoReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass
class _Stream:
    """What was seen of the video stream while it was read."""

    num_packets: int = 0
    num_frames: int = 0
    decode_errors: int = 0
    first_s: float | None = None
    last_s: float = 0.0
    demux_error: str | None = None
    times: array[float] = field(default_factory=lambda: array("d"))


def analyze_file(
    path: str | Path,
    *,
    uri: str,
    settings: AnalyzeSettings,
    on_keyframe: Callable[[str, bytes], None],
    on_progress: Callable[[int], None] = lambda frames: None,
) -> dict[str, Any]:
    """Return the row of a video, `shots` within, without embeddings.

    `on_keyframe(sha256, jpeg)` is called for each keyframe before the row is returned.
    """
    started = time.perf_counter()
    row: dict[str, Any] = {"uri": uri, "status": "quarantined", "shots": [], "num_shots": 0}
    try:
        row["content_sha256"] = _sha256(path)
        row["video_id"] = video_id(uri, row["content_sha256"])
        row |= _analyze(path, row["video_id"], settings, on_keyframe, on_progress, row)
        row["status"] = "kept"
    except _Rejected as fault:
        row |= {"reason": str(fault.reason), "detail": fault.detail, "shots": [], "num_shots": 0}
    except MemoryError as fault:
        row |= {"reason": str(VideoReason.OUT_OF_MEMORY), "detail": str(fault) or "out of memory"}
        row |= {"shots": [], "num_shots": 0}
    except OSError as fault:
        row |= {"reason": str(VideoReason.SOURCE_UNAVAILABLE), "detail": str(fault), "shots": []}
    row.setdefault("video_id", video_id(uri, ""))
    row["analyze_s"] = time.perf_counter() - started
    return row


def video_id(uri: str, content_sha256: str) -> str:
    """Return the identity of a source: the same bytes at the same address."""
    return hashlib.sha256(f"{uri}\0{content_sha256}".encode()).hexdigest()[:32]


def shot_id(video: str, start_frame: int, end_frame: int, detector_hash: str) -> str:
    """Return the identity of a shot: its video, its span and who found it."""
    key = f"{video}\0{start_frame}\0{end_frame}\0{detector_hash}"
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _analyze(
    path: str | Path,
    video: str,
    settings: AnalyzeSettings,
    on_keyframe: Callable[[str, bytes], None],
    on_progress: Callable[[int], None],
    row: dict[str, Any],
) -> dict[str, Any]:
    try:
        container = av.open(str(path), metadata_errors="replace")
    except av.error.MemoryError as fault:
        raise _Rejected(VideoReason.OUT_OF_MEMORY, str(fault)) from fault
    except (av.error.InvalidDataError, av.error.EOFError, ValueError) as fault:
        size = Path(path).stat().st_size
        raise _Rejected(VideoReason.UNREADABLE, f"no demuxer reads these {size} bytes") from fault
    except av.error.FFmpegError as fault:
        raise _Rejected(VideoReason.UNREADABLE, fault.strerror) from fault
    with container:
        stream = _first_video(container)
        row |= _describe(container, stream)
        _check_stream(stream, settings.decode)
        seen = _Stream()
        tracker = _ShotTracker(video, row, settings, on_keyframe)
        for frame in _frames(container, stream, seen):
            tracker.take(frame, seen)
            if seen.num_frames % FRAMES_PER_HEARTBEAT == 0:
                on_progress(seen.num_frames)
        row |= {"num_frames": seen.num_frames, "decode_errors": seen.decode_errors}
        _check_decoded(container, stream, seen, settings.decode)
        shots = tracker.finish(seen)
        return {
            "shots": shots,
            "num_shots": len(shots),
            "rotation": tracker.rotation,
            "pixel_format": tracker.pixel_format,
            "fps": tracker.fps,
            "variable_fps": _is_variable(seen.times),
            "duration_s": tracker.end_s(seen) - (seen.times[0] if seen.times else 0.0),
        }


def _first_video(container: Any) -> Any:
    """Return the first real video stream: cover art of a song is not one."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    kinds = ", ".join(sorted({s.type for s in container.streams})) or "no streams"
    raise _Rejected(VideoReason.NO_VIDEO_STREAM, f"the file holds {kinds}")


def _describe(container: Any, stream: Any) -> dict[str, Any]:
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


def _check_stream(stream: Any, limits: DecodeConfig) -> None:
    context = stream.codec_context
    if context is None:
        raise _Rejected(VideoReason.UNSUPPORTED_CODEC, "there is no decoder for this codec")
    if context.width * context.height > limits.max_pixels:
        raise _Rejected(
            VideoReason.TOO_LARGE,
            f"{context.width}x{context.height} is more than {limits.max_pixels} pixels",
        )
    context.thread_type = "NONE"
    context.thread_count = 1


def _frames(container: Any, stream: Any, seen: _Stream) -> Iterator[Any]:
    """Yield the stream's frames in presentation order; faults are counted, not raised."""
    try:
        for packet in container.demux():
            _note_time(packet, seen)
            if packet.stream.index != stream.index:
                continue
            seen.num_packets += packet.size > 0
            try:
                frames = packet.decode()
            except av.error.MemoryError as fault:
                raise _Rejected(VideoReason.OUT_OF_MEMORY, str(fault)) from fault
            except av.error.FFmpegError:
                seen.decode_errors += 1
                continue
            for frame in frames:
                seen.decode_errors += bool(frame.is_corrupt)
                yield frame
    except av.error.FFmpegError as fault:
        seen.demux_error = str(fault)


def _note_time(packet: Any, seen: _Stream) -> None:
    if packet.dts is None or packet.time_base is None:
        return
    start_s = float(packet.dts * packet.time_base)
    end_s = start_s + float((packet.duration or 0) * packet.time_base)
    seen.first_s = start_s if seen.first_s is None else min(seen.first_s, start_s)
    seen.last_s = max(seen.last_s, end_s)


def _check_decoded(container: Any, stream: Any, seen: _Stream, limits: DecodeConfig) -> None:
    promised, found = _promise(container, stream, seen)
    missing = 1.0 - found / promised if promised else 0.0
    if seen.num_frames == 0:
        if promised and missing > limits.max_missing_ratio:
            raise _Rejected(VideoReason.TRUNCATED, _promise_text(stream, promised, found))
        if seen.decode_errors:
            raise _Rejected(
                VideoReason.DECODE_ERRORS,
                f"no frame could be decoded from {seen.num_packets} packets",
            )
        raise _Rejected(VideoReason.NO_FRAMES, "the video stream holds no packets")
    # More faults than packets can be counted (a frame marked corrupt after its packet failed).
    ratio = min(1.0, seen.decode_errors / max(1, seen.num_packets))
    if ratio > limits.max_error_ratio:
        raise _Rejected(
            VideoReason.DECODE_ERRORS,
            f"{seen.decode_errors} faults in {seen.num_packets} packets ({ratio:.0%})",
        )
    if missing > limits.max_missing_ratio:
        raise _Rejected(VideoReason.TRUNCATED, _promise_text(stream, promised, found))
    if seen.demux_error and seen.num_frames < 2:
        raise _Rejected(VideoReason.TRUNCATED, seen.demux_error)


def _promise(container: Any, stream: Any, seen: _Stream) -> tuple[float, float]:
    """Return what the header promises and what was found: frames where it counts them, else
    seconds of all streams together (sound may outlast the picture)."""
    if stream.frames:
        return float(stream.frames), float(seen.num_packets)
    if container.duration:
        return container.duration / av.time_base, seen.last_s - (seen.first_s or 0.0)
    return 0.0, 0.0


def _promise_text(stream: Any, promised: float, found: float) -> str:
    unit = "frames" if stream.frames else "seconds"
    return f"the header promises {promised:g} {unit}, the file holds {found:g}"


def _is_variable(times: array[float]) -> bool:
    """Tell whether the distance between frames varies by more than rounding does."""
    if len(times) < 3:
        return False
    gaps = np.diff(np.frombuffer(times, np.float64))
    typical = float(np.median(gaps))
    return bool((np.abs(gaps - typical) > max(0.0021, 0.1 * abs(typical))).mean() > 0.02)


class _ShotTracker:
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

    def take(self, frame: Any, seen: _Stream) -> None:
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

    def finish(self, seen: _Stream) -> list[dict[str, Any]]:
        """Close the last shot and return all of them."""
        for transition in self._detector.finish():
            self._close(transition, seen)
        end = seen.num_frames
        self._close(Transition("cut", end, end, 0.0), seen, is_end=True)
        return self._shots

    def end_s(self, seen: _Stream) -> float:
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

    def _close(self, closing: Transition, seen: _Stream, *, is_end: bool = False) -> None:
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
        seen: _Stream,
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
            "num_people": None,
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


def keyframe_uri(sha256: str) -> str:
    """Return where a keyframe lies, relative to the output folder."""
    return f"media/{sha256[:2]}/{sha256}.jpg"


def _mean(values: array[float]) -> float:
    return float(np.mean(np.frombuffer(values, np.float32))) if len(values) else 0.0
