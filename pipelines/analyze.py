"""One video, decoded once: its shots, what was measured of them, and their keyframes.

Runs inside the decoding child (see sandbox.py). Knows nothing of Ray, CLIP or storage.
Nothing here raises for a fault of the data; the returned row carries a reason instead.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import av.error

from fw_model.schema import VideoReason
from pipelines.ids import video_id
from pipelines.shot_tracker import AnalyzeSettings, ShotTracker
from pipelines.video_stream import (
    Rejected,
    StreamSeen,
    check_decoded,
    check_stream,
    describe,
    first_video,
    is_variable,
    iter_frames,
)

# Raise this when the same settings begin to give other rows: finished rows are then made again.
ANALYZE_VERSION = 2
FRAMES_PER_HEARTBEAT = 48


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
    except Rejected as fault:
        row |= {"reason": str(fault.reason), "detail": fault.detail, "shots": [], "num_shots": 0}
    except MemoryError as fault:
        row |= {"reason": str(VideoReason.OUT_OF_MEMORY), "detail": str(fault) or "out of memory"}
        row |= {"shots": [], "num_shots": 0}
    except OSError as fault:
        row |= {"reason": str(VideoReason.SOURCE_UNAVAILABLE), "detail": str(fault), "shots": []}
    row.setdefault("video_id", video_id(uri, ""))
    row["analyze_s"] = time.perf_counter() - started
    return row


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
        raise Rejected(VideoReason.OUT_OF_MEMORY, str(fault)) from fault
    except (av.error.InvalidDataError, av.error.EOFError, ValueError) as fault:
        size = Path(path).stat().st_size
        raise Rejected(VideoReason.UNREADABLE, f"no demuxer reads these {size} bytes") from fault
    except av.error.FFmpegError as fault:
        raise Rejected(VideoReason.UNREADABLE, fault.strerror) from fault
    with container:
        stream = first_video(container)
        row |= describe(container, stream)
        check_stream(stream, settings.decode)
        seen = StreamSeen()
        tracker = ShotTracker(video, row, settings, on_keyframe)
        for frame in iter_frames(container, stream, seen):
            tracker.take(frame, seen)
            if seen.num_frames % FRAMES_PER_HEARTBEAT == 0:
                on_progress(seen.num_frames)
        row |= {"num_frames": seen.num_frames, "decode_errors": seen.decode_errors}
        check_decoded(container, stream, seen, settings.decode)
        shots = tracker.finish(seen)
        return {
            "shots": shots,
            "num_shots": len(shots),
            "rotation": tracker.rotation,
            "pixel_format": tracker.pixel_format,
            "fps": tracker.fps,
            "variable_fps": is_variable(seen.times),
            "duration_s": tracker.end_s(seen) - (seen.times[0] if seen.times else 0.0),
        }
