"""The state of a run on disk, and which run it belongs to.

A checkpoint is a folder with the engine's own files, the EMA and state.json. It appears whole or
not at all.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError

from fw_model.errors import CheckpointError, StorageError
from fw_model.files.atomic import atomic_folder, remove_leftovers
from fw_model.training.run_identity import UNCHANGEABLE, RunIdentity, differences

STATE_FILE = "state.json"


@dataclass(frozen=True)
class TrainingState:
    """How far a run has come, and which run it is. `step` is the next step to do."""

    step: int
    plan_hash: str
    engine: str
    identity: RunIdentity

    def write(self, folder: Path) -> None:
        text = json.dumps(asdict(self), indent=1)
        (folder / STATE_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> TrainingState:
        try:
            saved = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
            identity = saved["recipe" if "recipe" in saved else "identity"]  # version 0.1: recipe
            return cls(saved["step"], saved["plan_hash"], saved["engine"], identity)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CheckpointError(
                f"{folder} has no readable training state ({error}); delete that folder to go "
                "back to the checkpoint before it."
            ) from error


class CheckpointStore(Protocol):
    """The checkpoints of one run."""

    def latest(self) -> AbstractContextManager[Path | None]:
        """Yield the newest complete checkpoint as a local folder, or None."""

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Store the files that `write(folder)` writes to an empty folder; every rank calls this."""


class FolderStore:
    """Checkpoints of a single process: folders step_00000100, ..., the newest few kept."""

    def __init__(self, root: Path, keep: int) -> None:
        self._root = root
        self._keep = keep

    @contextmanager
    def latest(self) -> Iterator[Path | None]:
        complete = self._complete()
        yield complete[-1] if complete else None

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        with storage_errors(f"save a checkpoint in {self._root}"):
            remove_leftovers(self._root)
            with atomic_folder(self._root / f"step_{step:08d}") as folder:
                write(folder)
        for old in self._complete()[: -self._keep]:
            shutil.rmtree(old)

    def _complete(self) -> list[Path]:
        return sorted(p for p in self._root.glob("step_*") if (p / STATE_FILE).is_file())


@contextmanager
def storage_errors(action: str) -> Iterator[None]:
    """Turn a failed write into a StorageError; torch and safetensors raise other types."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        raise StorageError(
            f"Cannot {action}: {reason}. Is the disk full? Fix the cause and run the same command "
            "again."
        ) from error


class SaveClock:
    """Decides when a checkpoint is due: after some steps or minutes, whichever comes first."""

    def __init__(self, every_steps: int, every_minutes: float) -> None:
        self._every_steps = every_steps
        self._every_s = every_minutes * 60
        self._saved_at = time.monotonic()

    def is_due(self, next_step: int) -> bool:
        """Return whether a checkpoint is due before `next_step`."""
        overdue = time.monotonic() - self._saved_at >= self._every_s
        return overdue or next_step % self._every_steps == 0

    def saved(self) -> None:
        """Restart the clock."""
        self._saved_at = time.monotonic()


def check_resumable(state: TrainingState, now: TrainingState, *, allow_plan_change: bool) -> None:
    """Raise CheckpointError if `state` belongs to another run than `now`."""
    changed = differences(state.identity, now.identity)
    fixed = [name for name in changed if name in UNCHANGEABLE]
    if state.engine != now.engine:
        fixed.append("training.engine")
    if fixed:
        raise CheckpointError(
            f"The output holds a run with other {', '.join(fixed)}; give another output folder."
        )
    if state.plan_hash != now.plan_hash:
        changed.append("data, stages or sampling")
    if changed and not allow_plan_change:
        raise CheckpointError(
            f"The output holds a run with other settings: {', '.join(changed)}. Give another "
            "output folder, or set training.allow_plan_change=true to continue with the new ones."
        )
