"""What to show of a failure inside an actor or a task of Ray: one sentence, and a log for the rest.

Ray's own text is a traceback of a hundred lines, most of them Ray's. It goes to a file.
"""

from __future__ import annotations

import errno
import re
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from fw_model.errors import FilmWeaverError, find_cause

LOG_FILE = "filmweaver-failures.log"


class WorkerFailed(FilmWeaverError):
    """An actor or a task failed for a reason that none of our errors names."""


def worker_failure(error: BaseException, log_dir: Path | None) -> WorkerFailed | None:
    """Return a failure of Ray, or of code that it ran, as one sentence; None for another error.

    Our own errors and full disks have their sentence already. The traceback is appended to
    LOG_FILE in `log_dir`, Ray's folder of logs on this machine.
    """
    from ray.exceptions import RayError

    chain = list(_chain(error))
    ray_errors = [link for link in chain if isinstance(link, RayError)]
    if not ray_errors:
        return None
    place = _log(error, log_dir)
    if _has_a_sentence(error):
        return None
    raised_by = _TASK.search(str(ray_errors[0]))
    causes = [link for link in chain if not isinstance(link, RayError)]
    if raised_by is not None and causes:
        where = f"{_name(raised_by[1])} failed on node {raised_by[2]}"
        return WorkerFailed(f"{where} ({_short(causes[-1])}); {place}.")
    return WorkerFailed(f"A worker of Ray failed ({_short(ray_errors[-1])}); {place}.")


_TASK = re.compile(r"ray::(.+?)\(\).*?\(pid=\d+, ip=([^,)]+)", re.DOTALL)
"""How the text of an error of a task begins: the task, and the address of its node."""


def _has_a_sentence(error: BaseException) -> bool:
    disk = find_cause(error, OSError)
    is_full = disk is not None and disk.errno == errno.ENOSPC
    return is_full or find_cause(error, FilmWeaverError) is not None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and the errors that it wraps, outermost first, without the same one twice."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        wrapped = getattr(current, "cause", None)
        yield current
        current = wrapped if isinstance(wrapped, BaseException) else current.__cause__


def _name(task: str) -> str:
    """Return the operator in a name like `MapWorker(MapBatches(EmbedShots)).submit`."""
    return task.removesuffix(".submit").split("(")[-1].rstrip(")") or task


def _short(error: BaseException) -> str:
    """Return the type and the first line of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    kind = type(error).__name__
    return f"{kind}: {lines[0].rstrip('.')}" if lines else kind


def _log(error: BaseException, log_dir: Path | None) -> str:
    """Append the traceback to the log and say where it is."""
    if log_dir is None:
        return "see Ray's logs"
    path = log_dir / LOG_FILE
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n")
            file.write("".join(traceback.format_exception(error)) + "\n")
    except OSError:
        return f"the logs of all workers are in {log_dir}"
    return f"the traceback is in {path}"
