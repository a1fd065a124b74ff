"""Folders on this machine for what is needed for a while, gone with their owner however it ends.

An owner that is killed takes nothing out itself: its lock goes with it, and whoever makes the next
folder takes out those that nobody holds. Knows nothing of what lies in them.
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
def scratch_folder() -> Iterator[Path]:
    """Give an empty folder of the machine's temporary disk, and take it out afterwards."""
    root = Path(tempfile.gettempdir()) / f"filmweaver-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    with _locked(root):  # no folder is swept between its making and its lock
        _sweep(root)
        folder = Path(tempfile.mkdtemp(dir=root))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        os.close(lock)


def _sweep(root: Path) -> None:
    for folder in root.iterdir():
        with contextlib.suppress(OSError), _locked(folder, fcntl.LOCK_NB):
            shutil.rmtree(folder)


@contextlib.contextmanager
def _locked(folder: Path, how: int = 0) -> Iterator[None]:
    """Hold a folder's lock; OSError if another process does and `how` is not to wait."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | how)
        yield
    finally:
        os.close(lock)
