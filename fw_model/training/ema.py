"""Moving average of the weights, kept as float32 on the CPU and shared out over the ranks.

Each rank owns every n-th parameter, so n ranks hold one copy between them; a saved average can be
read back by any number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fw_model.errors import CheckpointError


class Ema:
    """The average of the weights this rank owns.

    `names` are all trained parameters, in the same order on every rank.
    """

    def __init__(self, names: Iterable[str], *, decay: float, rank: int, world_size: int) -> None:
        self._names = list(names)
        self._owners = {name: i % world_size for i, name in enumerate(self._names)}
        self._decay = decay
        self._rank, self._world_size = rank, world_size
        self._average: dict[str, Tensor] = {}

    def owner(self, name: str) -> int:
        """Return the rank that holds the average of `name`."""
        return self._owners[name]

    def __getitem__(self, name: str) -> Tensor:
        return self._average[name]

    @torch.no_grad()
    def update(self, weights: Iterable[tuple[str, Tensor]], *, step: int, steps: int = 1) -> None:
        """Fold in the weights after `step` (from 0); `steps` have passed since the last time.

        The decay ramps up as (1 + t) / (10 + t), so the first weights are soon forgotten.
        """
        decay = min(self._decay, (1 + step) / (10 + step)) ** steps
        for name, weight in weights:
            if self._owners[name] != self._rank:
                continue
            current = weight.detach().to("cpu", torch.float32)
            if name in self._average:
                self._average[name].lerp_(current, 1 - decay)
            else:
                self._average[name] = current.clone()

    def save(self, folder: Path) -> None:
        """Write this rank's share to `folder`."""
        path = folder / f"ema-{self._rank:05d}-of-{self._world_size:05d}.safetensors"
        save_file({k: v.contiguous() for k, v in self._average.items()}, str(path))

    def load(self, folder: Path) -> None:
        """Read this rank's share, whoever wrote it."""
        for path in sorted(folder.glob("ema-*.safetensors")):
            with safe_open(str(path), framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118 (not a dict)
                    if self._owners.get(name) == self._rank:
                        self._average[name] = stored.get_tensor(name)
        missing = [
            n for n in self._names if self._owners[n] == self._rank and n not in self._average
        ]
        if missing:
            raise CheckpointError(
                f"{folder} lacks the average of {len(missing)} weights (first: {missing[0]}); "
                "it was saved by a training of other parameters."
            )
