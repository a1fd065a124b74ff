"""Runs tasks in a child process with a memory limit and deadlines, so that a crash, a hang or a
memory bomb costs one task and is reported for what it was.

The child is this module run with `python -m`. Tasks, messages and results travel as pickles over
one socket pair (`multiprocessing.connection`), which nothing else in the child can write to.
Knows nothing about videos or Ray.
"""

from __future__ import annotations

import importlib
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from fw_model.errors import CapacityError

logger = logging.getLogger(__name__)

Message = TypeVar("Message")
Result = TypeVar("Result")

PROJECT_ROOT = Path(__file__).resolve().parents[2]
STARTUP_S = 120.0
MAX_STARTS = 3  # a crowded machine may fail to start a process once


class ChildError(Exception):
    """The child gave no result."""


class ChildTimeout(ChildError):
    """The child missed its deadline, or sent nothing for too long, and was killed."""


class ChildDied(ChildError):
    """The child ended by itself or was killed."""

    def __init__(self, returncode: int) -> None:
        name = signal.Signals(-returncode).name if returncode < 0 else f"exit code {returncode}"
        super().__init__(f"the child process ended with {name}")
        self.was_killed = returncode == -signal.SIGKILL
        """Whether something else killed it: the system when memory ran out, or a person."""


class ChildProcess:
    """Runs one task after another in a child that is replaced when it dies, hangs or has run
    `max_tasks`.

    The child imports the module `preload` before the clock of its first task starts. `stall_s` is
    the longest time without a message, `deadline_s` the longest time for a task.
    """

    def __init__(
        self,
        preload: str,
        *,
        memory_limit_mb: int,
        deadline_s: float,
        stall_s: float = float("inf"),
        max_tasks: int = 1,
    ) -> None:
        self._preload = preload
        self._memory_limit_mb = memory_limit_mb
        self._deadline_s, self._stall_s = deadline_s, stall_s
        self._max_tasks = max_tasks
        self._num_tasks = 0
        self._child: tuple[subprocess.Popen[bytes], Connection] | None = None

    def run(
        self,
        task: Callable[[Callable[[Message], None]], Result],
        on_message: Callable[[Message], None],
    ) -> Result:
        """Return what `task(send)` returns in the child; `on_message` gets what it sends.

        The task must be picklable, such as a `partial` of a module's function, and should return
        its errors: raising one ends the child. Raises ChildTimeout or ChildDied, or CapacityError
        if no child can be started.
        """
        process, connection = self._ready_child()
        deadline = time.monotonic() + self._deadline_s
        try:
            try:
                connection.send(task)
            except OSError as error:
                raise ChildDied(process.wait()) from error
            while True:
                is_result, content = self._receive(process, connection, deadline)
                if is_result:
                    break
                on_message(content)
        except BaseException:
            self.close()  # the rest of this task's messages must not be taken for the next one's
            raise
        self._num_tasks += 1
        if self._num_tasks >= self._max_tasks:
            self.close()
        result: Result = content
        return result

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            (process, connection), self._child, self._num_tasks = self._child, None, 0
            process.kill()
            process.wait()
            connection.close()

    def _receive(
        self, process: subprocess.Popen[bytes], connection: Connection, deadline: float
    ) -> tuple[bool, Any]:
        """Return the next message: whether it is the result, and its content."""
        left_s = deadline - time.monotonic()
        try:
            if left_s > 0 and connection.poll(min(left_s, self._stall_s)):
                is_result, content = connection.recv()
                return is_result, content
        except (EOFError, OSError) as error:
            raise ChildDied(process.wait()) from error
        if left_s <= self._stall_s:
            raise ChildTimeout(f"not done after {self._deadline_s:g} s")
        raise ChildTimeout(f"no progress for {self._stall_s:g} s")

    def _ready_child(self) -> tuple[subprocess.Popen[bytes], Connection]:
        if self._child is not None and self._child[0].poll() is None:
            return self._child
        for attempt in range(1, MAX_STARTS + 1):
            self.close()
            _, connection = self._child = self._start()
            try:
                if connection.poll(STARTUP_S):
                    connection.recv()
                    return self._child
            except (EOFError, OSError):
                pass  # it ended before it was ready
            logger.warning("child process did not start, attempt %d of %d", attempt, MAX_STARTS)
        self.close()
        raise CapacityError(
            f"No child process started in {MAX_STARTS} attempts of up to {STARTUP_S:g} s; the "
            "machine has too little memory or its disk is too slow. Nothing is lost: run the same "
            "command again."
        )

    def _start(self) -> tuple[subprocess.Popen[bytes], Connection]:
        search_path = [str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(search_path),
            # One thread: children run side by side, and each thread reserves address space.
            "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
        }  # fmt: skip
        own_end, child_end = Pipe()
        with child_end:
            process = subprocess.Popen(
                [
                    sys.executable, "-m", "pipelines.curation.child_process",
                    str(child_end.fileno()), str(self._memory_limit_mb), self._preload,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # native code may print
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=[child_end.fileno()],
            )  # fmt: skip
        return process, own_end


def _serve(parent: Connection, memory_limit_mb: int, preload: str) -> None:
    """Run tasks until the parent closes its end: the child's whole life."""
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    importlib.import_module(preload)
    limit = memory_limit_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    parent.send(None)  # ready
    while True:
        try:
            task = parent.recv()
        except EOFError:
            return
        result = task(lambda message: parent.send((False, message)))
        parent.send((True, result))


def _exit_with_parent() -> None:
    """Exit when the parent is gone: a hanging decoder would never notice the closed connection."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(2.0)
    os._exit(1)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])), int(sys.argv[2]), sys.argv[3])
