"""The checkpoints of a run on a cluster, which Ray Train keeps in the output folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import ray.train
from ray.train import Checkpoint, CheckpointConsistencyMode

from fw_model.training.checkpoint import TrainingState, storage_errors
from pipelines.storage.tempdirs import temporary_folder
from pipelines.training.job import TrainJob

_SNAPSHOT = "checkpoint_manager_snapshot.json"  # Ray Train's own record of its checkpoints


def committed_state(job: TrainJob) -> TrainingState | None:
    """Return the state of the newest checkpoint that Ray Train has committed, if any."""
    folder = job.run.train_state
    if not (folder / _SNAPSHOT).is_file():
        return None
    snapshot = json.loads((folder / _SNAPSHOT).read_text(encoding="utf-8"))
    latest = snapshot["latest_checkpoint_result"]
    return None if latest is None else TrainingState.read(folder / latest["checkpoint_dir_name"])


def resume_step(job: TrainJob) -> int:
    """Return the step that the newest committed checkpoint continues with; 0 if there is none."""
    state = committed_state(job)
    return 0 if state is None else state.step


class RayStore:
    """Checkpoints kept by Ray Train: every rank reports its files, Ray merges them."""

    @contextlib.contextmanager
    def latest(self) -> Iterator[Path | None]:
        """Yield the newest committed checkpoint as a local folder, or None."""
        checkpoint = ray.train.get_checkpoint()
        if checkpoint is None:
            yield None
            return
        with checkpoint.as_directory() as folder:
            yield Path(folder)

    def save(self, step: int, write: Callable[[Path], None]) -> None:
        """Report what `write` leaves in a folder, and wait until it is committed.

        Without the wait, a crash right after the report would lose the checkpoint.
        """
        with temporary_folder() as folder:
            with storage_errors(f"save a checkpoint through {folder}"):
                write(folder)
            ray.train.report({"step": step}, checkpoint=Checkpoint.from_directory(folder))
        ray.train.get_all_reported_checkpoints(CheckpointConsistencyMode.COMMITTED)
