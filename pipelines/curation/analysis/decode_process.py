"""Decodes in a child process, so that a crash, a hang or a memory bomb costs one video and is
reported as what it was.

Knows how videos fail; how the child is run is child_process.py's business.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from fw_model.errors import ConfigError, FilmWeaverError
from fw_model.schemas.curated import VideoReason
from fw_model.schemas.curated_rows import DecodedVideoRow
from pipelines.curation.analysis.analyze import analyze_file, quarantined_row
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings, OnKeyframe
from pipelines.curation.analysis.time_ranges import (
    MeasuredRange,
    SplitVideo,
    TimeRange,
    UnreliableTimes,
    analyze_range,
    split_video,
)
from pipelines.curation.analysis.video_stream import Rejected
from pipelines.curation.child_process import ChildDied, ChildProcess, ChildTimeout

logger = logging.getLogger(__name__)

Result = TypeVar("Result")
Message = tuple[str, bytes] | None
"""A keyframe (its hash and JPEG), or None as a sign of life."""


class DecodeSandbox:
    """Decodes videos in a child process that is replaced when it dies, hangs or grows old.

    Besides what they name, all methods raise ConfigError for settings that do not work and
    CapacityError if no child can be started.
    """

    def __init__(self, settings: AnalyzeSettings) -> None:
        self._settings = settings
        limits = settings.decode
        self._child = ChildProcess(
            __name__,
            memory_limit_mb=limits.memory_limit_mb,
            deadline_s=limits.deadline_s,
            stall_s=limits.stall_s,
            max_tasks=limits.videos_per_child,
        )

    def analyze(
        self, path: str, *, uri: str, on_keyframe: OnKeyframe, longest_s: float | None = None
    ) -> DecodedVideoRow:
        """Return what `analyze_file` returns; a child that failed gives a quarantined row."""
        started = time.monotonic()
        task = partial(analyze_file, path, uri=uri, settings=self._settings, longest_s=longest_s)
        try:
            return self._run(task, path, on_keyframe)
        except Rejected as failure:
            row = quarantined_row(uri, failure.reason, failure.detail)
            row["analyze_s"] = time.monotonic() - started
            return row

    def split(self, path: str, *, uri: str) -> SplitVideo:
        """Return what `split_video` returns; Rejected if the child failed."""
        return self._run(partial(split_video, path, uri=uri, settings=self._settings), path)

    def analyze_range(
        self, path: str, *, row: DecodedVideoRow, part: TimeRange, on_keyframe: OnKeyframe
    ) -> MeasuredRange:
        """Return what `analyze_range` returns; Rejected if the child failed.

        Raises UnreliableTimes if the file cannot be analyzed in ranges.
        """
        task = partial(analyze_range, path, row=row, part=part, settings=self._settings)
        return self._run(task, path, on_keyframe)

    def close(self) -> None:
        """End the child, if there is one."""
        self._child.close()

    def _run(
        self, task: Callable[..., Result], path: str, on_keyframe: OnKeyframe | None = None
    ) -> Result:
        try:
            try:
                return self._attempt(task, on_keyframe)
            except ChildDied as death:
                if not death.was_killed:
                    raise
            # The memory may have gone to a neighbour. If this file needs too much, it fails again.
            logger.warning("the decoding child was killed at %s; trying once more", path)
            return self._attempt(task, on_keyframe)
        except ChildDied as death:
            if not death.was_killed:
                raise Rejected(VideoReason.DECODER_CRASH, str(death)) from death
            detail = "the decoding child was killed by the system, twice"
            raise Rejected(VideoReason.OUT_OF_MEMORY, detail) from death

    def _attempt(self, task: Callable[..., Result], on_keyframe: OnKeyframe | None) -> Result:
        def on_message(message: Message) -> None:
            if message is not None and on_keyframe is not None:
                on_keyframe(*message)

        try:
            outcome = self._child.run(partial(_outcome, task, on_keyframe is not None), on_message)
        except ChildTimeout as late:
            raise Rejected(VideoReason.TIMEOUT, str(late)) from late
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def _outcome(
    task: Callable[..., Result], sends_keyframes: bool, send: Callable[[Message], None]
) -> Result | Rejected | UnreliableTimes | ConfigError:
    """Return what the task returns or, as a value, why it failed: runs in the child."""
    callbacks: dict[str, Callable[..., None]] = {"on_progress": lambda: send(None)}
    if sends_keyframes:
        callbacks["on_keyframe"] = lambda sha256, jpeg: send((sha256, jpeg))
    try:
        return task(**callbacks)
    except (Rejected, UnreliableTimes) as fault:
        return fault
    except FilmWeaverError as error:
        return ConfigError(str(error))
    except MemoryError as error:
        return Rejected(VideoReason.OUT_OF_MEMORY, str(error) or "out of memory")
    except OSError as error:
        return Rejected(VideoReason.SOURCE_UNAVAILABLE, str(error))
    except Exception as error:  # noqa: BLE001  the parent reports it with the video
        return Rejected(VideoReason.ANALYSIS_ERROR, f"{type(error).__name__}: {error}")
