"""Muon: momentum with orthogonalised updates (Jordan et al. 2024), for convolution kernels too.

Adam changes every weight of a 3x3x3 kernel by the same amount, which over hundreds of inputs is
either far too much or, with a small learning rate, far too slow. Muon instead bounds the change of
a layer's output. `torch.optim.Muon` accepts only matrices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import nn

_QUINTIC = (3.4445, -4.7750, 2.0315)  # the paper's Newton-Schulz coefficients
_NEWTON_SCHULZ_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Muon for weights of two or more dimensions, each treated as a matrix [out, rest]."""

    def __init__(
        self, weights: Iterable[torch.Tensor], lr: float = 0.03, momentum: float = 0.95
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        if closure is not None:
            raise NotImplementedError("Muon takes no closure.")
        for group in self.param_groups:
            # Matrices of one shape are orthogonalised together: few large products instead of many.
            by_shape: dict[tuple[int, int], list[torch.Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_shape[len(weight), weight[0].numel()].append(weight)
            for weights in by_shape.values():
                self._move(weights, group["lr"], group["momentum"])

    def _move(self, weights: list[torch.Tensor], rate: float, momentum: float) -> None:
        updates = torch.stack([self._update(w, momentum) for w in weights])  # [N, rows, columns]
        rows, columns = updates.shape[1:]
        scale = max(1.0, rows / columns) ** 0.5
        for weight, update in zip(weights, orthogonalise(updates), strict=True):
            weight.add_(update.view_as(weight), alpha=-rate * scale)

    def _update(self, weight: torch.Tensor, momentum: float) -> torch.Tensor:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        gradient = weight.grad
        assert gradient is not None
        state["momentum"].lerp_(gradient, 1 - momentum)
        mixed: torch.Tensor = gradient.lerp(state["momentum"], momentum)
        return mixed.flatten(1)  # [out, in * kernel]


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Return roughly the nearest matrices [N, rows, columns] with all singular values one.

    Newton-Schulz on each matrix.
    """
    a, b, c = _QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    current = matrices.mT if tall else matrices
    current = current / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = current @ current.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        current = torch.baddbmm(current, polynomial, current, beta=a)
    return current.mT if tall else current


def split_weights(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the trainable weights of convolutions and linear layers, and all others."""
    layers = (nn.Conv2d, nn.Conv3d, nn.Linear)
    chosen = {id(m.weight) for m in module.modules() if isinstance(m, layers)}
    trained = [p for p in module.parameters() if p.requires_grad]
    return ([p for p in trained if id(p) in chosen], [p for p in trained if id(p) not in chosen])
