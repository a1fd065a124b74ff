"""One process at a time writes to an output folder."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fw_model.errors import CapacityError, StorageError


@contextmanager
def only_one(work: str, output: Path) -> Iterator[None]:
    """Lock `output` for `work` (training, curation) while the block runs.

    The lock ends with the process, even if that is killed. CapacityError if another process has it.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = (output / f".{work}.lock").open("w")
    except OSError as error:
        raise StorageError(f"Cannot write to {output}: {error.strerror or error}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CapacityError(
                f"Another {work} is writing to {output}; wait for it or give another folder."
            ) from error
        yield
