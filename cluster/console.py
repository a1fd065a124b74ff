"""What a person sees in the terminal: logs, progress, and errors as one sentence.

Progress is a moving bar on a terminal and a plain line every few seconds elsewhere.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from fw_model.errors import FilmWeaverError, find_cause

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)
log = logging.getLogger("filmweaver")

LINE_INTERVAL_S = 5.0
POLL_INTERVAL_S = 1.0
RAY_DATA_SUFFIX = "\nFailed to apply UDF transform after"  # Ray Data appends advice to our message


def configure_logging() -> None:
    """Send logs to stderr; libraries log only warnings and errors."""
    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname).1s %(name)s: %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    # Read by Ray Data when it is imported; its files under the Ray session keep everything.
    os.environ.setdefault("RAY_DATA_LOG_LEVEL", "WARNING")
    for name in ("filmweaver", "cluster", "pipelines", "serve", "fw_model"):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(True)
    for category in (DeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", category)


class Meter(Protocol):
    """Shows the progress of a job."""

    def update(self, done: float, note: str = "") -> None:
        """Report that `done` of the total is finished."""


class _Lines:
    """Progress as plain lines, one every few seconds."""

    def __init__(self, title: str, total: float | None) -> None:
        self._title, self._total, self._last = title, total, 0.0
        self._finished = False
        self._began: tuple[float, float] | None = None  # the time, and how much was done by then

    def update(self, done: float, note: str = "") -> None:
        now = time.monotonic()
        finished = self._total is not None and done >= self._total
        if self._finished:
            return
        if finished or now - self._last >= LINE_INTERVAL_S:
            self._last, self._finished = now, finished
            total = f"/{self._total:g}" if self._total is not None else ""
            words = [f"{self._title}: {done:g}{total}", note, self._pace(done, now)]
            log.info("%s", " ".join(filter(None, words)))

    def _pace(self, done: float, now: float) -> str:
        """Return the rate so far and the time left at that rate."""
        if self._began is None:
            self._began = (now, done)
            return ""
        began, before = self._began
        if now - began < 1.0 or done <= before:
            return ""
        rate = (done - before) / (now - began)
        left = "" if self._total is None else f", {(self._total - done) / rate:.0f} s to go"
        return f"({rate:.3g}/s{left})"


class _Rate(ProgressColumn):
    """How many are done per second."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.3g}/s")


class _Bar:
    """Progress as a bar that moves."""

    def __init__(self, progress: Progress, title: str, total: float | None) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=total, note="")

    def update(self, done: float, note: str = "") -> None:
        self._progress.update(self._task, completed=done, note=note)


@contextmanager
def meter(title: str, total: float | None) -> Iterator[Meter]:
    """Show progress towards `total` (None: unknown) while the block runs."""
    if not err.is_terminal:
        yield _Lines(title, total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        _Rate(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=err, transient=False) as progress:
        yield _Bar(progress, title, total)


@contextmanager
def phases() -> Iterator[Callable[[str, int, int], None]]:
    """Show a job of several phases; call the yielded function with (phase, done, total)."""
    with ExitStack() as stack:
        meters: dict[str, Meter] = {}

        def report(phase: str, done: int, total: int) -> None:
            if phase not in meters:
                stack.close()  # phases follow one another
                meters[phase] = stack.enter_context(meter(phase, total))
            meters[phase].update(done)

        yield report


@contextmanager
def watch_metrics(
    title: str, path: Path, total_steps: int, *, logs_itself: bool = False
) -> Iterator[None]:
    """Show the training that writes `path` (metrics.jsonl) while the block runs.

    Only the file is read, because the training may run in other processes. Training in this
    process `logs_itself`, so then only a terminal gets the bar.
    """
    if logs_itself and not err.is_terminal:
        yield
        return
    stop = threading.Event()
    with meter(title, total_steps) as progress:

        def follow() -> None:
            while not stop.wait(POLL_INTERVAL_S):
                newest = last_record(path)
                if newest is not None:
                    loss = newest.get("loss")
                    note = f"loss {loss:.4f}" if isinstance(loss, float) else ""
                    progress.update(newest["step"] + 1, note)

        thread = threading.Thread(target=follow, name="watch-metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def last_record(path: Path, tail_bytes: int = 8192) -> dict[str, float] | None:
    """Return the last complete JSON line of `path`, or None if it has none yet."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - tail_bytes))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    # The tail may start in the middle of a record, so only its last line counts.
    return json.loads(lines[-1]) if lines and lines[-1].startswith(b"{") else None


def one_sentence(error: BaseException) -> str | None:
    """Return what to show for an error that the user can fix; None for a bug."""
    root = find_cause(error, FilmWeaverError)
    if root is not None:
        return str(root).partition(RAY_DATA_SUFFIX)[0].strip()
    refused = find_cause(error, OSError)
    if refused is not None and refused.errno == errno.ENOSPC:
        where = f" while writing {refused.filename}" if refused.filename else ""
        return f"The disk is full{where}; free some space and run the command again: it resumes."
    if isinstance(refused, PermissionError):
        return f"No permission for {refused.filename}; choose a folder you can write to."
    return None
