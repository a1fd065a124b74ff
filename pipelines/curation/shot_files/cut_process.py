"""Cuts shots in a child process, so that a crash or a hang costs one shot file.

Knows nothing about storage, Ray or tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pipelines.curation.child_process import ChildError, ChildProcess
from pipelines.curation.shot_files.cut_video import cut_video
from pipelines.curation.shot_files.spans import CutSpan, ShotFile

Task = Callable[[Callable[[ShotFile], None]], str | None]


def cut_in_child(
    path: str,
    spans: Sequence[CutSpan],
    *,
    copy: bool,
    num_frames: int,
    folder: Path,
    memory_limit_mb: int,
    deadline_s: float,
) -> list[ShotFile]:
    """Do `cut_video` in a child process.

    If the child dies or hangs, the files that it finished count; the other shots get the mode
    "unfinished". Raises CapacityError if no child can be started.
    """
    child = ChildProcess(__name__, memory_limit_mb=memory_limit_mb, deadline_s=deadline_s)
    return collect(child, partial(_cut, path, spans, copy, num_frames, folder), spans)


def collect(child: ChildProcess, task: Task, spans: Sequence[CutSpan]) -> list[ShotFile]:
    """Run a task that sends a ShotFile per span; return one for every span, in order."""
    done: dict[str, ShotFile] = {}
    try:
        failure = child.run(task, lambda file: done.update({file.shot_id: file}))
    except ChildError as error:
        failure = str(error)
    return [done.get(s.shot_id) or ShotFile(s.shot_id, "unfinished", None, failure) for s in spans]


def _cut(
    path: str,
    spans: Sequence[CutSpan],
    copy: bool,
    num_frames: int,
    folder: Path,
    send: Callable[[ShotFile], None],
) -> str | None:
    """Cut in the child; return what stopped it, None if every span is settled."""
    try:
        for file in cut_video(path, spans, copy=copy, num_frames=num_frames, folder=folder):
            send(file)
    except Exception as error:  # noqa: BLE001  the parent reports it with the shots
        return f"{type(error).__name__}: {error}"
    return None
