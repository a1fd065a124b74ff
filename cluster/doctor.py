"""Checks that this machine has what the commands need.

Each check is a function that returns what it found; none installs or changes anything.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.table import Table

from cluster.console import out

if TYPE_CHECKING:
    from cluster.config import FilmWeaverConfig

NEEDED_DISK_GIB = 5.0
NEEDED_MEMORY_GIB = 6.0
PACKAGES = (
    "ray", "torch", "torchvision", "deepspeed", "diffusers", "transformers", "open_clip_torch",
    "pyarrow", "scenedetect", "av", "peft",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What one check found; `advice` says what to do if it is not ok."""

    what: str
    value: str
    ok: bool
    advice: str = ""
    required: bool = True


def check_python() -> Finding:
    """Check for Python 3.11 or newer."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("python", version, sys.version_info >= (3, 11), "install Python 3.11")


def check_machine() -> Iterable[Finding]:
    """Check the cores, the memory and the free disk of the working folder."""
    yield Finding(
        "cores",
        str(os.cpu_count()),
        (os.cpu_count() or 1) >= 2,
        "two or more are recommended",
        False,
    )
    memory = psutil.virtual_memory().available / 1024**3
    yield Finding(
        "memory",
        f"{memory:.1f} GiB available",
        memory >= NEEDED_MEMORY_GIB,
        f"{NEEDED_MEMORY_GIB:g} GiB are recommended for the demo",
        False,
    )
    disk = shutil.disk_usage(Path.cwd()).free / 1024**3
    yield Finding(
        "disk",
        f"{disk:.1f} GiB free here",
        disk >= NEEDED_DISK_GIB,
        f"free at least {NEEDED_DISK_GIB:g} GiB",
    )


def check_packages() -> Iterable[Finding]:
    """Check the installed versions, and that torchvision was built for this torch."""
    for package in PACKAGES:
        try:
            yield Finding(package, importlib.metadata.version(package), True)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(package, "missing", False, "run `make setup`")
    done = subprocess.run(
        [sys.executable, "-c", "import cv2, torch, torchvision; print(torch.cuda.device_count())"],
        capture_output=True,
        text=True,
        check=False,
    )
    ok = done.returncode == 0
    value = f"{done.stdout.strip()} GPUs" if ok else done.stderr.strip().splitlines()[-1][:80]
    yield Finding("torch imports", value, ok, "install the torchvision that matches this torch")


def check_compiler() -> Iterable[Finding]:
    """Check for what builds `training.compile` and DeepSpeed's kernels; optional."""
    for program, advice in (
        ("g++", "needed for training.compile: apt install g++"),
        ("ninja", "needed for DeepSpeed's own kernels: pip install ninja"),
    ):
        beside_python = shutil.which(program, path=str(Path(sys.executable).parent))
        found = shutil.which(program) or beside_python
        yield Finding(program, found or "missing", found is not None, advice, False)


def check_model(settings: FilmWeaverConfig) -> Finding:
    """Check that the configured weights are there."""
    from fw_model.loading.folders import resolve_folder

    path = resolve_folder(settings.model.path)
    size_mb = sum(file.stat().st_size for file in path.rglob("*.safetensors")) / 1e6
    has_all = all((path / part).is_dir() for part in ("transformer", "vae"))
    return Finding(
        "model", f"{path} ({size_mb:.0f} MB)", has_all, "set model.path to a model folder"
    )


def check_port(settings: FilmWeaverConfig) -> Finding:
    """Check that `filmweaver serve` can listen on its port."""
    port = settings.serving.port
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            advice = "choose another with `serve --port N`"
            return Finding(f"port {port}", error.strerror or "taken", False, advice, False)
    return Finding(f"port {port}", "free", True)


def print_report(settings: FilmWeaverConfig) -> bool:
    """Print every finding; return whether all required checks passed."""
    findings = [
        check_python(),
        *check_machine(),
        *check_packages(),
        *check_compiler(),
        check_model(settings),
        check_port(settings),
    ]
    table = Table("", "check", "found", "what to do", box=None, pad_edge=False)
    for finding in findings:
        mark = "ok" if finding.ok else ("MISSING" if finding.required else "note")
        table.add_row(mark, finding.what, finding.value, "" if finding.ok else finding.advice)
    out.print(table)
    return all(finding.ok for finding in findings if finding.required)
