"""Decoding in a child process with a memory limit and deadlines, so that a crash, a hang or a
memory bomb costs one video and is named as what it was.

The child is this module run by `python -m`. It serves one request after another over its pipes;
messages are pickles with a length in front. Nothing else can write to the pipes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from fw_model.errors import CapacityError, ConfigError, FilmWeaverError
from fw_model.schemas.curated import VideoReason
from pipelines.curation.analysis.analyze import analyze_file
from pipelines.curation.analysis.shot_tracker import AnalyzeSettings
from pipelines.curation.analysis.time_ranges import Uncountable, split_video, watch_range
from pipelines.curation.analysis.video_stream import Rejected
from pipelines.curation.ids import video_id

logger = logging.getLogger(__name__)

TASKS: Mapping[str, Callable[..., Any]] = {
    "analyze": analyze_file,
    "split": split_video,
    "watch": watch_range,
}
_LENGTH = struct.Struct("<Q")
PROJECT_ROOT = Path(__file__).resolve().parents[3]
STARTUP_S = 120.0
STARTS = 3  # tries to get a child going, which a crowded machine may fail once


class _Quiet(Exception):
    """The child sent nothing in time."""


class _Killed(Exception):
    """Somebody else ended the child: the system for want of memory, or whoever ends processes."""


class ChildFailed(Exception):
    """The child gave no result: why, as a reason to quarantine the video."""

    def __init__(self, reason: VideoReason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class DecodeSandbox:
    """Decodes videos in a child process that is replaced when it dies, hangs or grows old."""

    def __init__(self, settings: AnalyzeSettings) -> None:
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._num_served = 0

    def analyze(
        self,
        path: str,
        *,
        uri: str,
        on_keyframe: Callable[[str, bytes], None],
        longest_s: float | None = None,
    ) -> dict[str, Any]:
        """Return the row of a video; a child that failed gives a quarantined row.

        See `analyze_file`. Raises ConfigError for what is wrong with the settings and not with the
        video.
        """
        started = time.monotonic()
        try:
            row: dict[str, Any] = self.call(
                "analyze", path, on_keyframe=on_keyframe, uri=uri, longest_s=longest_s
            )
        except ChildFailed as failure:
            row = failed_row(uri, failure.reason, failure.detail)
            row["analyze_s"] = time.monotonic() - started
        return row

    def call(
        self,
        task: str,
        path: str,
        *,
        on_keyframe: Callable[[str, bytes], None] = lambda sha256, jpeg: None,
        **arguments: Any,
    ) -> Any:
        """Return what the task of TASKS gives for a file.

        Raises ChildFailed if it gives nothing, ConfigError for wrong settings, Uncountable if the
        file cannot be watched in ranges, CapacityError if no child can be started.
        """
        ask = partial(self._attempt, task, path, on_keyframe, arguments)
        try:
            return ask()
        except _Killed:
            # Was it this file, or did memory go to a neighbour? What is too much is so again.
            logger.warning("the decoding child was killed at %s; trying once more", path)
        try:
            return ask()
        except _Killed as killed:
            detail = "the decoding child was killed by the system, twice"
            raise ChildFailed(VideoReason.OUT_OF_MEMORY, detail) from killed

    def _attempt(
        self,
        task: str,
        path: str,
        on_keyframe: Callable[[str, bytes], None],
        arguments: Mapping[str, Any],
    ) -> Any:
        child = self._ready_child()
        started = time.monotonic()
        try:
            self._send(child, (task, path, arguments, self._settings))
            result = self._receive_result(child, started, on_keyframe)
        except _Quiet as quiet:
            self.close()
            limit = self._settings.decode
            late = time.monotonic() - started >= limit.deadline_s
            detail = (
                f"not done after {limit.deadline_s:g} s"
                if late
                else f"no new frame for {limit.stall_s:g} s"
            )
            raise ChildFailed(VideoReason.TIMEOUT, detail) from quiet
        except (EOFError, BrokenPipeError) as gone:
            raise self._cause_of_death() from gone
        self._num_served += 1
        if self._num_served >= self._settings.decode.videos_per_child:
            self.close()
        return result

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is None:
            return
        child, self._child, self._num_served = self._child, None, 0
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _ready_child(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        for attempt in range(1, STARTS + 1):
            self.close()
            try:
                return self._start_child()
            except (_Quiet, EOFError) as fault:
                logger.warning("decoding child did not start, try %d: %r", attempt, fault)
        self.close()
        raise CapacityError(
            f"No decoding child came up in {STARTS} tries of {STARTUP_S:g} s; the machine has too "
            "little memory or its disk is too slow. Nothing is lost: run the same command again."
        )

    def _start_child(self) -> subprocess.Popen[bytes]:
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(PROJECT_ROOT), *filter(None, [environment.get("PYTHONPATH")])]
        )
        # One thread: videos are decoded side by side, and each thread reserves address space.
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._child = subprocess.Popen(
            [sys.executable, "-m", "pipelines.curation.analysis.decode_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            bufsize=0,
        )
        kind, _ = self._receive(self._child, time.monotonic() + STARTUP_S)
        if kind != "ready":
            raise RuntimeError(f"the decoding child said {kind!r} before it was ready")
        return self._child

    def _send(self, child: subprocess.Popen[bytes], message: Any) -> None:
        assert child.stdin is not None
        _write_message(child.stdin, message)

    def _receive_result(
        self,
        child: subprocess.Popen[bytes],
        started: float,
        on_keyframe: Callable[[str, bytes], None],
    ) -> Any:
        limits = self._settings.decode
        while True:
            now = time.monotonic()
            until = min(started + limits.deadline_s, now + limits.stall_s)
            kind, content = self._receive(child, until)
            if kind == "keyframe":
                try:
                    on_keyframe(*content)
                except BaseException:
                    self.close()  # what the child has yet to say belongs to no later video
                    raise
            elif kind == "done":
                return content
            elif kind == "rejected":
                raise ChildFailed(*content)
            elif kind == "uncountable":
                raise Uncountable(content)
            elif kind == "misconfigured":
                raise ConfigError(content)

    def _receive(self, child: subprocess.Popen[bytes], until: float) -> tuple[str, Any]:
        assert child.stdout is not None
        (length,) = _LENGTH.unpack(_read_exactly(child.stdout, _LENGTH.size, until))
        kind, content = pickle.loads(_read_exactly(child.stdout, length, until))
        return kind, content

    def _cause_of_death(self) -> Exception:
        assert self._child is not None
        code = self._child.wait()
        self.close()
        if code == -signal.SIGKILL:
            return _Killed()
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return ChildFailed(VideoReason.DECODER_CRASH, f"the decoding child ended with {name}")


def failed_row(uri: str, reason: VideoReason, detail: str) -> dict[str, Any]:
    """Return the row of a video of which nothing is known but why."""
    return {
        "uri": uri,
        "video_id": video_id(uri, ""),
        "status": "quarantined",
        "reason": str(reason),
        "detail": detail,
        "shots": [],
        "num_shots": 0,
    }


def _write_message(pipe: BinaryIO | Any, message: Any) -> None:
    data = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    view = memoryview(_LENGTH.pack(len(data)) + data)
    while view:
        view = view[pipe.write(view) :]


def _read_exactly(pipe: Any, length: int, until: float) -> bytes:
    chunks: list[bytes] = []
    while length:
        wait_s = until - time.monotonic()
        if wait_s <= 0 or not select.select([pipe], [], [], wait_s)[0]:
            raise _Quiet
        chunk = os.read(pipe.fileno(), min(length, 1 << 20))
        if not chunk:
            raise EOFError
        chunks.append(chunk)
        length -= len(chunk)
    return b"".join(chunks)


def _limit_memory(limit_mb: int) -> None:
    limit = limit_mb * 1024 * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def end_with_parent() -> None:
    """Leave when the parent is gone: a hanging decoder would never notice the closed pipe."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(2.0)
    os._exit(1)


def serve_requests() -> None:
    """Answer requests until the parent closes the pipe: the child's whole life."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    # Native code may print; only messages may reach the parent.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    send = partial(_write_message, replies)
    requests = sys.stdin.buffer
    send(("ready", None))
    while header := requests.read(_LENGTH.size):
        task, path, arguments, settings = pickle.loads(requests.read(_LENGTH.unpack(header)[0]))
        _limit_memory(settings.decode.memory_limit_mb)
        send(_answer(task, path, arguments, settings, send))


def _answer(
    task: str,
    path: str,
    arguments: dict[str, Any],
    settings: AnalyzeSettings,
    send: Callable[[Any], None],
) -> tuple[str, Any]:
    """Return the last message about a video; keyframes and progress are sent before."""
    if task != "split":
        arguments["on_keyframe"] = lambda sha256, jpeg: send(("keyframe", (sha256, jpeg)))
    try:
        result = TASKS[task](
            path,
            settings=settings,
            on_progress=lambda frames: send(("progress", frames)),
            **arguments,
        )
    except Rejected as fault:
        return "rejected", (fault.reason, fault.detail)
    except Uncountable as fault:
        return "uncountable", str(fault)
    except FilmWeaverError as error:
        return "misconfigured", str(error)
    except MemoryError as error:
        return "rejected", (VideoReason.OUT_OF_MEMORY, str(error) or "out of memory")
    except OSError as error:
        return "rejected", (VideoReason.SOURCE_UNAVAILABLE, str(error))
    except Exception as error:  # noqa: BLE001  the parent reports it with the video
        return "rejected", (VideoReason.ANALYSIS_ERROR, f"{type(error).__name__}: {error}")
    return "done", result


if __name__ == "__main__":
    serve_requests()
