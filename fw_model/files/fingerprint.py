"""A short hash of the content of folders of weights, cheap even for large weights.

Knows nothing about models. A folder's own name and place do not count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

NUM_SAMPLES, SAMPLE_BYTES = 64, 2**20


def fingerprint_folders(
    facts: str, folders: Iterable[Path], *, without: tuple[str, ...] = ()
) -> str:
    """Return a hash of `facts` and of the files in `folders`, in this order.

    Tensors and settings whose names start with one of `without` do not count. If nothing is left
    out, a file of more than 64 MiB is sampled from end to end: further training changes weights
    nearly everywhere.
    """
    digest = hashlib.sha256(facts.encode())
    for number, folder in enumerate(folders):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                digest.update(f"\n{number}/{path.relative_to(folder)}:".encode())
                digest.update(_digest_without(path, without) if without else _digest_of(path))
    return digest.hexdigest()[:16]


def _digest_without(path: Path, without: tuple[str, ...]) -> bytes:
    try:
        if path.suffix == ".json":
            settings = json.loads(path.read_text(encoding="utf-8"))
            kept = {k: v for k, v in settings.items() if not k.startswith(without)}
            return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).digest()
        if path.suffix == ".safetensors":
            return _digest_of_tensors(path, without)
    except (ValueError, AttributeError, SafetensorError):
        pass  # a damaged file: its loader reports that, here its bytes count
    return _digest_of(path)


def _digest_of_tensors(path: Path, without: tuple[str, ...]) -> bytes:
    digest = hashlib.sha256()
    with safe_open(path, framework="pt") as weights:
        for name in sorted(weights.keys()):
            if not name.startswith(without):
                tensor = weights.get_tensor(name).contiguous()
                digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}:".encode())
                digest.update(tensor.view(-1).view(torch.uint8).numpy())
    return digest.digest()


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
