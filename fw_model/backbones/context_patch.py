"""Patch embeddings of context that is read in coarser patches than the backbone's own.

The only parameters that FilmWeaver adds to a pretrained transformer: one embedding per patch size.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from fw_model.cache.config import Kernel
from fw_model.errors import CheckpointError

CONTEXT_PATCH_FILE = "context_patch.safetensors"


def kernel_name(kernel: Kernel) -> str:
    """Return the name of a patch size, such as 1x2x2."""
    return "x".join(map(str, kernel))


def inflated_patches(patch_embedding: nn.Conv3d, kernels: Iterable[Kernel]) -> nn.ModuleDict:
    """Return an embedding for each of `kernels`, made from the pretrained one."""
    return nn.ModuleDict({kernel_name(k): _inflate(patch_embedding, k) for k in kernels})


def load_context_patch(context_patch: nn.ModuleDict, path: Path) -> None:
    """Read saved embeddings; CheckpointError if damaged or trained for other cache levels."""
    try:
        saved = load_file(str(path))
        missing, unexpected = context_patch.load_state_dict(saved, strict=False)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{path} does not load ({error}); copy it or train again.") from error
    if missing or unexpected:
        raise CheckpointError(
            f"{path} was trained for other cache levels (missing {missing}, "
            f"unexpected {unexpected}); use the levels in its filmweaver.json."
        )


def _inflate(patch_embedding: nn.Conv3d, kernel: Kernel) -> nn.Conv3d:
    """Return an embedding of `kernel` cells made from the pretrained one.

    Its weight is tiled over the larger kernel and divided, so that a constant input gives the same
    token (FramePack's initialisation).
    """
    weight, bias = patch_embedding.weight.detach(), patch_embedding.bias
    small = tuple(weight.shape[2:])
    if any(large % base for large, base in zip(kernel, small, strict=True)):
        raise CheckpointError(
            f"Cache level kernel {kernel} is not a multiple of the patch {small}."
        )
    repeats = [large // base for large, base in zip(kernel, small, strict=True)]
    conv = nn.Conv3d(weight.shape[1], weight.shape[0], kernel, stride=kernel).to(weight)
    with torch.no_grad():
        factor = repeats[0] * repeats[1] * repeats[2]
        conv.weight.copy_(weight.repeat(1, 1, *repeats) / factor)
        assert conv.bias is not None and bias is not None
        conv.bias.copy_(bias)
    return conv
