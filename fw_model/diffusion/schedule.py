"""Noise levels: keyed random numbers, sigma sampling, and the sigma of "diffusion step 100".

Sigma is the flow-matching noise level in [0, 1]: x_sigma = (1 - sigma) latents + sigma noise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

NoiseMapping = Literal["literal", "snr_ddpm_linear", "shift3", "shift5"]


def derive_seed(seed: int, purpose: str, *index: int | str) -> int:
    """Return a 63-bit seed that depends on all arguments and nothing else."""
    text = ":".join([str(seed), purpose, *map(str, index)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def keyed_generator(seed: int, purpose: str, *index: int | str) -> torch.Generator:
    """Return a CPU generator keyed by its arguments, independent of earlier random numbers."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, *index))


def shift_sigma(sigma: Tensor, shift: float) -> Tensor:
    """Return the timestep-shifted sigma, s * sigma / (1 + (s - 1) * sigma) (Esser et al. 2024)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def sample_sigma(
    generators: list[torch.Generator], *, mean: float = 0.0, std: float = 1.0, shift: float = 1.0
) -> Tensor:
    """Sample one shifted logit-normal sigma per generator: [B], each in (0, 1)."""
    normal = torch.cat([torch.randn(1, generator=g) for g in generators])  # [B]
    return shift_sigma(torch.sigmoid(mean + std * normal), shift)


def _ddpm_linear(step: float) -> float:
    """Return the sigma with the signal-to-noise ratio of DDPM's linear schedule at `step`."""
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    log_alpha_bar = torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-betas).cumsum(0)])
    low = min(int(step), 999)
    weight = step - low
    alpha_bar = math.exp(float(torch.lerp(log_alpha_bar[low], log_alpha_bar[low + 1], weight)))
    ratio = math.sqrt((1 - alpha_bar) / alpha_bar)
    return ratio / (1 + ratio)


def _shifted(shift: float) -> Callable[[float], float]:
    return lambda step: shift * step / 1000 / (1 + (shift - 1) * step / 1000)


_MAPPINGS: dict[str, Callable[[float], float]] = {
    "literal": lambda step: step / 1000,
    "snr_ddpm_linear": _ddpm_linear,
    "shift3": _shifted(3.0),
    "shift5": _shifted(5.0),
}


def sigma_of_step(step: float, mapping: NoiseMapping) -> float:
    """Return the sigma that "diffusion step `step` of 1000" means under `mapping`.

    The paper's "100-400" is ambiguous for a flow model, so the mapping is a named choice that
    training records in the checkpoint and generation reads back.
    """
    return _MAPPINGS[mapping](step)
