"""Reads the weights file of a judge. Knows nothing about what the weights are for."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from fw_model.errors import CheckpointError

StateDict = Mapping[str, torch.Tensor]


def load_weights(path: str | Path) -> StateDict:
    """Return the tensors of a .safetensors file or a torch file, by name, as float32 on the CPU.

    A torch file is read with `weights_only`, so it cannot run code. CheckpointError if the file
    has other content.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise CheckpointError(f"No weights file at {str(path)!r}; check the path.")
    try:
        if file.suffix == ".safetensors":
            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, SafetensorError) as error:
        raise CheckpointError(f"The weights in {file} do not load: {error}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} is not a plain state dict (it holds code, or is not a torch file); save only "
            "the model's state_dict()."
        ) from error
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise CheckpointError(f"{file} is not a state dict: it must map names to tensors.")
    return {
        name: value.float() if value.is_floating_point() else value for name, value in state.items()
    }


def weights_digest(path: str | Path) -> str:
    """Return a hash of the file's content; CheckpointError if it cannot be read."""
    try:
        with Path(path).expanduser().open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(
            f"Cannot read the weights {str(path)!r}: {error.strerror}."
        ) from error
