"""Weights inside optional packages, run by onnxruntime on one thread.

Nothing is downloaded: a package that is not installed is a ConfigError with the command that
installs it. Knows nothing about what a network computes.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fw_model.errors import ConfigError

if TYPE_CHECKING:
    import onnxruntime


def package_folder(package: str, extra: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise _missing(package, extra)
    return Path(spec.origin).parent


def optional_module(name: str, extra: str) -> ModuleType:
    """Import a module of an optional package."""
    try:
        return import_module(name)
    except ImportError as error:
        raise _missing(error.name or name, extra) from error


def weights_digest(*files: Path) -> str:
    """Return a short hash of files of weights, so that other weights make other settings."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def open_session(model: str | bytes, extra: str) -> onnxruntime.InferenceSession:
    """Open a network, a file or its bytes, on the CPU.

    One thread: the actors that run it are spread over the cores.
    """
    runtime = optional_module("onnxruntime", extra)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # warnings about old exports say nothing about the results
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _missing(package: str, extra: str) -> ConfigError:
    return ConfigError(
        f"The package {package} is not installed; install it with "
        f'pip install "filmweaver[{extra}]".'
    )
