"""One training at a time writes to an output folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fw_model.errors import CheckpointError, StorageError

LOCK_FILE = ".training.lock"


@contextmanager
def only_training(output: Path) -> Iterator[None]:
    """Hold `output` while the block runs; the lock falls with the process, however it ends.

    Raises CheckpointError where another process holds it.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = (output / LOCK_FILE).open("w")
    except OSError as error:
        raise StorageError(f"Cannot write to {output}: {error.strerror or error}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CheckpointError(
                f"Another training is writing to {output}; wait for it or give another folder."
            ) from error
        yield
