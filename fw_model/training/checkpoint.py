"""Where a run's state lives on disk, and the record that says what it belongs to.

A checkpoint is a folder: the engine's own files, the EMA, and state.json. It is complete or it is
not there: written under another name, then renamed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError

from fw_model.errors import CheckpointError, StorageError
from fw_model.training.run_identity import FIXED, Recipe, differences

STATE_FILE = "state.json"


@dataclass(frozen=True)
class TrainingState:
    """Position of a run and what it is a run of. `step` is the next step to do."""

    step: int
    plan_hash: str
    engine: str
    world_size: int
    recipe: Recipe

    def write(self, folder: Path) -> None:
        """Write state.json into `folder`."""
        text = json.dumps(asdict(self), indent=1)
        (folder / STATE_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> TrainingState:
        """Read state.json of `folder`."""
        try:
            return cls(**json.loads((folder / STATE_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"{folder} holds no readable training state ({error}); delete that folder to go "
                "back to the checkpoint before it."
            ) from error


class CheckpointStore(Protocol):
    """Keeps the checkpoints of one run."""

    def latest(self) -> contextlib.AbstractContextManager[Path | None]:
        """Give the newest complete checkpoint as a local folder, or None."""

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Keep what `write(folder)` leaves in an empty folder; every rank calls this."""


class FolderStore:
    """Checkpoints of a single process: folders step_00000100, ..., the newest few kept."""

    def __init__(self, root: Path, keep: int) -> None:
        self._root = root
        self._keep = keep

    @contextlib.contextmanager
    def latest(self) -> Iterator[Path | None]:
        """Give the newest complete checkpoint, or None."""
        complete = self._complete()
        yield complete[-1] if complete else None

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Write the checkpoint of `step` and drop the oldest beyond `keep`."""
        target = self._root / f"step_{step:08d}"
        partial = self._root / f".partial-{os.getpid()}-{step:08d}"
        with writing(f"save a checkpoint in {self._root}"):
            try:
                for left_over in self._root.glob(".partial-*"):  # of a run that was killed
                    shutil.rmtree(left_over, ignore_errors=True)
                partial.mkdir(parents=True)
                write(partial)
                _sync(partial)
                if target.exists():
                    shutil.rmtree(target)
                os.replace(partial, target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        for old in self._complete()[: -self._keep]:
            shutil.rmtree(old)

    def _complete(self) -> list[Path]:
        return sorted(p for p in self._root.glob("step_*") if (p / STATE_FILE).is_file())


@contextlib.contextmanager
def writing(what: str) -> Iterator[None]:
    """Turn a failed write into one StorageError; torch and safetensors raise their own kinds."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        raise StorageError(
            f"Cannot {what}: {reason}. Is the disk full? Mend it and run the same command again."
        ) from error


class SaveClock:
    """Says when a checkpoint is due: by steps or by minutes, whichever comes first."""

    def __init__(self, every_steps: int, every_minutes: float) -> None:
        self._every_steps = every_steps
        self._every_s = every_minutes * 60
        self._saved_at = time.monotonic()

    def is_due(self, next_step: int) -> bool:
        """Return whether a checkpoint is due before `next_step`."""
        overdue = time.monotonic() - self._saved_at >= self._every_s
        return overdue or next_step % self._every_steps == 0

    def saved(self) -> None:
        """Start counting anew."""
        self._saved_at = time.monotonic()


def check_resumable(state: TrainingState, now: TrainingState, *, allow_plan_change: bool) -> None:
    """Raise CheckpointError if `state` is of another run than `now`."""
    changed = differences(state.recipe, now.recipe)
    fixed = [name for name in changed if name in FIXED]
    if state.engine != now.engine:
        fixed.append("training.engine")
    if fixed:
        raise CheckpointError(
            f"The output holds a run of other {', '.join(fixed)}; give another output folder."
        )
    if state.plan_hash != now.plan_hash:
        changed.append("data, stages or sampling")
    if changed and not allow_plan_change:
        raise CheckpointError(
            f"The output holds a run of other settings: {', '.join(changed)}. Give another output "
            "folder, or set training.allow_plan_change=true to go on with the new ones."
        )


def _sync(folder: Path) -> None:
    """Flush the files of `folder` to disk, so that a rename never outlives its contents."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
