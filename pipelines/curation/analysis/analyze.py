"""One video, decoded once: its shots, what was measured of them, and their keyframes.

Runs inside the decoding child (see sandbox.py). Knows nothing of Ray, CLIP or storage.
Nothing here raises for a fault of the data; the returned row carries a reason instead.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import av.error

from fw_model.schemas.curated import VideoReason
from pipelines.curation.analysis.shot_tracker import (
    DEFAULT_FPS,
    AnalyzeSettings,
    ShotTracker,
    Watched,
    end_s,
    shots_of,
)
from pipelines.curation.analysis.video_stream import (
    Rejected,
    StreamSeen,
    check_decoded,
    check_stream,
    describe,
    first_video,
    is_variable,
    iter_frames,
)
from pipelines.curation.ids import video_id

# Raise this when the same settings begin to give other rows: finished rows are then made again.
ANALYZE_VERSION = 9
FRAMES_PER_HEARTBEAT = 48
READ_BYTES = 64 * 1024 * 1024
LONG = "long"
"""Status of a video that is to be analyzed in ranges of time; it is never committed."""

OnKeyframe = Callable[[str, bytes], None]
OnProgress = Callable[[int], None]


def analyze_file(
    path: str | Path,
    *,
    uri: str,
    settings: AnalyzeSettings,
    on_keyframe: OnKeyframe,
    on_progress: OnProgress = lambda frames: None,
    longest_s: float | None = None,
) -> dict[str, Any]:
    """Return the row of a video, `shots` within, without embeddings.

    `on_keyframe(sha256, jpeg)` is called for each keyframe before the row is returned. A video
    that says it is longer than `longest_s` is not decoded: its row has the status LONG.
    """
    row: dict[str, Any] = {"uri": uri}
    with (
        whatever_happens(row),
        identified(row, path, on_progress),
        opened(path) as (container, stream),
    ):
        row |= describe(container, stream)
        check_stream(stream, settings.decode)
        if longest_s is not None and (container.duration or 0) / av.time_base > longest_s:
            row["status"] = LONG
            return row
        seen = StreamSeen()
        tracker = new_tracker(row, settings, on_keyframe)
        for frame in iter_frames(container, stream, seen):
            tracker.take(frame)
            if tracker.next_frame % FRAMES_PER_HEARTBEAT == 0:
                on_progress(tracker.next_frame)
        row |= {"num_frames": tracker.next_frame, "decode_errors": seen.decode_errors}
        check_decoded(container, stream, seen, tracker.next_frame, settings.decode)
        row |= summed_up(tracker.finish(), row, settings)
        row["status"] = "kept"
    return row


@contextmanager
def whatever_happens(row: dict[str, Any]) -> Iterator[None]:
    """Give the row its time and, if the video is not to be kept, the reason."""
    started = time.perf_counter()
    row |= {"status": "quarantined", "shots": [], "num_shots": 0}
    try:
        yield
    except Rejected as fault:
        row |= _rejected(fault.reason, fault.detail)
    except MemoryError as fault:
        row |= _rejected(VideoReason.OUT_OF_MEMORY, str(fault) or "out of memory")
    except OSError as fault:
        row |= _rejected(VideoReason.SOURCE_UNAVAILABLE, str(fault))
    row.setdefault("video_id", video_id(row["uri"], ""))
    row["analyze_s"] = time.perf_counter() - started


@contextmanager
def identified(row: dict[str, Any], path: str | Path, on_progress: OnProgress) -> Iterator[None]:
    """Give the row its ids, from what the file holds; a slow disk is no standstill."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
            on_progress(0)
    row["content_sha256"] = digest.hexdigest()
    row["video_id"] = video_id(row["uri"], row["content_sha256"])
    yield


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[Any, Any]]:
    """Open a video and find its stream; Rejected if there is none to be had."""
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
        yield container, first_video(container)


def new_tracker(
    row: dict[str, Any], settings: AnalyzeSettings, on_keyframe: OnKeyframe, **where: Any
) -> ShotTracker:
    """Return a tracker for the video that `row` describes."""
    return ShotTracker(
        settings,
        fps=usable_fps(row),
        pixel_format=row["pixel_format"],
        sample_aspect_ratio=row["sample_aspect_ratio"],
        on_keyframe=on_keyframe,
        **where,
    )


def usable_fps(row: dict[str, Any]) -> float:
    """Return the rate that the file claims, or a usual one if that is absurd."""
    return float(row["fps"]) if 0 < row["fps"] <= 1000 else DEFAULT_FPS


def summed_up(watched: Watched, row: dict[str, Any], settings: AnalyzeSettings) -> dict[str, Any]:
    """Return what a row says of a video that was watched whole."""
    fps = usable_fps(row)
    shots = shots_of(watched, settings, video=row["video_id"], fps=fps)
    return {
        "shots": shots,
        "num_shots": len(shots),
        "rotation": watched.rotation,
        "pixel_format": watched.pixel_format,
        "fps": fps,
        "variable_fps": is_variable(watched.times),
        "duration_s": end_s(watched, fps) - watched.times[0] if watched.num_frames else 0.0,
    }


def _rejected(reason: VideoReason, detail: str) -> dict[str, Any]:
    return {
        "status": "quarantined", "reason": str(reason), "detail": detail,
        "shots": [], "num_shots": 0,
    }  # fmt: skip
