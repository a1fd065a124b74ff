"""Temporary folders that are removed even if their owner is killed.

The owner holds a lock on its folder, which the system releases when the process ends. Making a
folder first removes those that no process holds. Knows nothing about their content.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make an empty folder on the machine's temporary disk and remove it after the block."""
    root = Path(tempfile.gettempdir()) / f"filmweaver-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    with _locked(root):  # so that no other process removes the folder before it is locked
        _remove_abandoned(root)
        folder = Path(tempfile.mkdtemp(dir=root))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(lock)


def _remove_abandoned(root: Path) -> None:
    for folder in root.iterdir():
        with contextlib.suppress(OSError), _locked(folder, fcntl.LOCK_NB):
            shutil.rmtree(folder)


@contextlib.contextmanager
def _locked(folder: Path, flags: int = 0) -> Iterator[None]:
    """Hold a folder's lock; with LOCK_NB, raise OSError if another process holds it."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(lock)
