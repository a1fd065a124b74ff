"""Moving average of the weights, in float32 and distributed over the ranks.

Each rank owns every n-th parameter, so n ranks hold one copy together; a saved average can be read
by any number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fw_model.errors import CheckpointError


class Ema:
    """The average of the weights this rank owns.

    `names` are all averaged parameters, in the same order on every rank.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        decay: float,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
    ) -> None:
        self._names = list(names)
        self._owners = {name: i % world_size for i, name in enumerate(self._names)}
        self._decay = decay
        self._rank, self._world_size = rank, world_size
        self._device = device
        self._average: dict[str, Tensor] = {}

    def owner(self, name: str) -> int:
        """Return the rank that holds the average of `name`."""
        return self._owners[name]

    def __getitem__(self, name: str) -> Tensor:
        return self._average[name]

    @torch.no_grad()
    def update(self, weights: Iterable[tuple[str, Tensor]], *, step: int, steps: int = 1) -> None:
        """Add the weights after `step`, which is `steps` steps after the last update.

        The decay ramps up as (1 + step) / (10 + step), so the first weights soon stop counting.
        """
        decay = min(self._decay, (1 + step) / (10 + step)) ** steps
        for name, weight in weights:
            if self._owners[name] != self._rank:
                continue
            current = weight.detach().to(self._device, torch.float32)
            if name in self._average:
                self._average[name].lerp_(current, 1 - decay)
            else:
                self._average[name] = current.clone()

    @contextmanager
    def applied_to(self, module: nn.Module) -> Iterator[None]:
        """Give `module` the averaged weights for the block, then its own again (one rank)."""
        parameters = dict(module.named_parameters())
        own = {name: parameters[name].detach().clone() for name in self._names}
        _copy(self._average, parameters)
        try:
            yield
        finally:
            _copy(own, parameters)

    def save(self, folder: Path) -> None:
        """Write this rank's share to `folder`."""
        path = folder / f"ema-{self._rank:05d}-of-{self._world_size:05d}.safetensors"
        save_file({k: v.contiguous() for k, v in self._average.items()}, str(path))

    def load(self, folder: Path) -> None:
        """Read this rank's share from a folder that any number of ranks wrote."""
        for path in sorted(folder.glob("ema-*.safetensors")):
            with safe_open(str(path), framework="pt") as stored:
                for name in stored.keys():  # noqa: SIM118 (not a dict)
                    if self._owners.get(name) == self._rank:
                        self._average[name] = stored.get_tensor(name)
        self._check_complete(str(folder))

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return this rank's share, to be saved along with other state."""
        return {"weights": self._average}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Restore what `state_dict` returned."""
        weights = state["weights"]
        self._average = {n: weights[n].to(self._device) for n in self._names if n in weights}
        self._check_complete("The saved state")

    def _check_complete(self, where: str) -> None:
        own = [name for name in self._names if self._owners[name] == self._rank]
        missing = [name for name in own if name not in self._average]
        if missing:
            raise CheckpointError(
                f"{where} has no average of {len(missing)} weights (first: "
                f"{missing[0]}); it was saved with other trained parameters, so give "
                "another output folder."
            )


@torch.no_grad()
def _copy(weights: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    for name, weight in weights.items():
        parameters[name].copy_(weight)
