"""Decodes one video once and returns its shots, their measurements and their keyframes.

Runs inside the decoding child (see decode_process.py). Knows nothing about Ray, CLIP or storage.
Nothing here raises because of bad data; the returned row carries a reason instead.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from fw_model.media.deinterlace import deinterlaced
from fw_model.media.frame_times import FrameClock
from fw_model.schemas.curated import VideoReason
from fw_model.schemas.curated_rows import DecodedVideoRow
from pipelines.curation.analysis.interlacing import (
    FLAGGED,
    FieldMeter,
    field_order,
    interlaced_share,
)
from pipelines.curation.analysis.shot_tracker import (
    WHOLE_VIDEO,
    AnalyzeSettings,
    OnKeyframe,
    ShotTracker,
    VideoMeasurements,
    end_s,
    shot_rows,
)
from pipelines.curation.analysis.video_stream import (
    Rejected,
    StreamSeen,
    check_decoded,
    check_stream,
    first_video,
    is_variable,
    iter_frames,
    record_header,
    shown_fps,
    time_unit,
    usable_fps,
)
from pipelines.curation.ids import video_id

# Raise this when the same settings start to give different rows: finished videos are then redone.
ANALYZE_VERSION = 11
FRAMES_PER_HEARTBEAT = 48
READ_BYTES = 64 * 1024 * 1024
LONG = "long"
"""Status of a video that must be analyzed in time ranges; it is never committed."""

OnProgress = Callable[[], None]


def analyze_file(
    path: str | Path,
    *,
    uri: str,
    settings: AnalyzeSettings,
    on_keyframe: OnKeyframe,
    on_progress: OnProgress = lambda: None,
    longest_s: float | None = None,
) -> DecodedVideoRow:
    """Return the row of a video with its shots, without embeddings.

    `on_keyframe(sha256, jpeg)` is called for each keyframe before the row is returned. A video
    whose header says that it is longer than `longest_s` is not decoded: its row has status LONG.
    """
    row = quarantined_row(uri)
    with (
        failures_recorded(row),
        opened_source(row, path, settings, on_progress) as (container, stream),
    ):
        if longest_s is not None and (container.duration or 0) / av.time_base > longest_s:
            row["status"] = LONG
            return row
        seen = StreamSeen()
        tracker = new_tracker(row, stream, settings, on_keyframe)
        meter = FieldMeter()
        for frame in deinterlaced(meter.marked(iter_frames(container, stream, seen))):
            tracker.take(frame)
            if tracker.next_frame % FRAMES_PER_HEARTBEAT == 0:
                on_progress()
        row.update({"num_frames": tracker.next_frame, "decode_errors": seen.decode_errors})
        check_decoded(container, stream, seen, tracker.next_frame, settings.decode)
        complete_row(row, tracker.finish(meter.kinds()), settings)
    return row


def quarantined_row(
    uri: str, reason: VideoReason | None = None, detail: str | None = None
) -> DecodedVideoRow:
    """Return the row of a video of which nothing else is known."""
    return {
        "video_id": video_id(uri, ""),
        "uri": uri,
        "content_sha256": None,
        "container": None,
        "codec": None,
        "pixel_format": None,
        "width": None,
        "height": None,
        "rotation": None,
        "sample_aspect_ratio": None,
        "fps": None,
        "variable_fps": None,
        "duration_s": None,
        "num_frames": None,
        "num_video_streams": None,
        "decode_errors": None,
        "field_order": None,
        "interlaced_share": None,
        "interlaced_flag_share": None,
        "status": "quarantined",
        "reason": reason and str(reason),
        "detail": detail,
        "analyze_s": None,
        "num_shots": 0,
        "shots": [],
    }


@contextmanager
def failures_recorded(row: DecodedVideoRow) -> Iterator[None]:
    """Time the block and, if it fails, record in the row why the video is quarantined."""
    started = time.perf_counter()
    try:
        yield
    except Rejected as fault:
        _quarantine(row, fault.reason, fault.detail)
    except MemoryError as fault:
        _quarantine(row, VideoReason.OUT_OF_MEMORY, str(fault) or "out of memory")
    except OSError as fault:
        _quarantine(row, VideoReason.SOURCE_UNAVAILABLE, str(fault))
    row["analyze_s"] = time.perf_counter() - started


def _quarantine(row: DecodedVideoRow, reason: VideoReason, detail: str) -> None:
    row.update({"status": "quarantined", "reason": str(reason), "detail": detail})


@contextmanager
def opened_source(
    row: DecodedVideoRow, path: str | Path, settings: AnalyzeSettings, on_progress: OnProgress
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video that can be decoded; fill the row's ids and what the header says.

    Raises Rejected or OSError if it cannot be.
    """
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
            on_progress()  # a slow disk is not a stall
    row["content_sha256"] = digest.hexdigest()
    row["video_id"] = video_id(row["uri"], digest.hexdigest())
    with opened(path) as (container, stream):
        record_header(row, container, stream)
        check_stream(stream, settings.decode)
        yield container, stream


@contextmanager
def opened(path: str | Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and find its video stream; Rejected if it has none."""
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
    row: DecodedVideoRow,
    stream: VideoStream,
    settings: AnalyzeSettings,
    on_keyframe: OnKeyframe,
    *,
    first: int = 0,
    own: range = WHOLE_VIDEO,
) -> ShotTracker:
    """Return a tracker for the stream of the video that `row` describes."""
    fps = usable_fps(row["fps"])
    return ShotTracker(
        settings,
        clock=FrameClock(row["container"] or "", time_unit(stream), fps),
        fps=fps,
        pixel_format=row["pixel_format"],
        sample_aspect_ratio=row["sample_aspect_ratio"] or 1.0,
        on_keyframe=on_keyframe,
        first=first,
        own=own,
    )


def complete_row(
    row: DecodedVideoRow, measured: VideoMeasurements, settings: AnalyzeSettings
) -> None:
    """Fill the row of a kept video, all of whose frames were measured."""
    fps = shown_fps(measured.times, usable_fps(row["fps"]))
    shots = shot_rows(measured, settings, video=row["video_id"], fps=fps)
    row.update(
        {
            "shots": shots,
            "num_shots": len(shots),
            "rotation": measured.rotation,
            "pixel_format": measured.pixel_format,
            "fps": fps,
            "variable_fps": is_variable(measured.times),
            "duration_s": (
                end_s(measured, fps) - measured.times[0] if measured.num_frames else 0.0
            ),
            "field_order": field_order(measured.fields) or "progressive",
            "interlaced_share": interlaced_share(measured.fields),
            "interlaced_flag_share": _flag_share(measured),
            "status": "kept",
        }
    )


def _flag_share(measured: VideoMeasurements) -> float:
    return sum(kind >= FLAGGED for kind in measured.fields) / max(1, measured.num_frames)
