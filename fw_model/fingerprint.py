"""What folders of weights hold, as a short hash that is cheap however large the weights are.

Knows nothing of models. A folder's own name and place do not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

NUM_SAMPLES, SAMPLE_BYTES = 64, 2**20


def fingerprint_folders(facts: str, folders: Iterable[Path]) -> str:
    """Return a hash of `facts` and of what the files in `folders` hold, in this order.

    A file of more than 64 MiB is sampled from end to end: weights that were trained on differ
    nearly everywhere.
    """
    digest = hashlib.sha256(facts.encode())
    for number, folder in enumerate(folders):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                digest.update(f"\n{number}/{path.relative_to(folder)}:".encode())
                digest.update(_digest_of(path))
    return digest.hexdigest()[:16]


def _digest_of(path: Path) -> bytes:
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= NUM_SAMPLES * SAMPLE_BYTES:
            digest.update(file.read())
        else:
            for number in range(NUM_SAMPLES):  # the first at the start, the last at the end
                file.seek(number * (size - SAMPLE_BYTES) // (NUM_SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.digest()
