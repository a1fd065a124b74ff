"""Weights of judges, random, saved in exactly the layouts of the real ones."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torchvision.models import inception_v3

V2_SIZES = {0: (1024, None), 2: (128, 1024), 4: (64, 128), 6: (16, 64), 7: (1, 16)}
"""Rows and columns of the MLP's layers by their place in it; None is CLIP's width."""


def v1_state(width: int, *, seed: int = 1) -> dict[str, torch.Tensor]:
    """Return the state dict of the linear aesthetic head."""
    weight = torch.randn(1, width, generator=torch.Generator().manual_seed(seed))
    return {"weight": weight, "bias": torch.tensor([5.0])}


def v2_state(width: int) -> dict[str, torch.Tensor]:
    """Return the state dict of the MLP."""
    generator = torch.Generator().manual_seed(2)
    state = {}
    for index, (rows, columns) in V2_SIZES.items():
        shape = (rows, columns or width)
        state[f"layers.{index}.weight"] = torch.randn(shape, generator=generator) / shape[1] ** 0.5
        state[f"layers.{index}.bias"] = torch.randn(rows, generator=generator)
    return state


def saved(state: dict[str, torch.Tensor], path: Path) -> Path:
    """Write a state dict as the name of the file asks."""
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def random_inception() -> torch.nn.Module:
    """Return torchvision's network, as its pretrained weights set it up, so that it tells pictures
    apart."""
    torch.manual_seed(0)
    net = inception_v3(weights=None, aux_logits=True, init_weights=False, transform_input=True)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():  # without the statistics of some pictures all would look alike to it
        net(torch.rand(4, 3, 299, 299) * torch.tensor([0.2, 0.5, 1, 2])[:, None, None, None])
    return net.eval()
