"""The exchanges between ranks that every engine needs; without a process group, one rank."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def rank_and_world_size() -> tuple[int, int]:
    """Return this process's rank and the number of ranks."""
    if not dist.is_initialized():
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def mean_over_ranks(values: Tensor) -> Tensor:
    """Return `values` averaged over ranks (all ranks call this)."""
    _, world_size = rank_and_world_size()
    if world_size == 1:
        return values
    summed = values.detach().clone()
    dist.all_reduce(summed)
    return summed / world_size


def collect_on_first(
    value: Tensor | None, shape: torch.Size, owner: int, device: torch.device
) -> Tensor | None:
    """Send a float32 tensor from rank `owner` to rank 0; others get None (both ranks call this)."""
    rank, _ = rank_and_world_size()
    if owner == 0:
        return value if rank == 0 else None
    if rank == owner:
        assert value is not None
        dist.send(value.to(device).contiguous(), dst=0)
    if rank != 0:
        return None
    received = torch.empty(shape, dtype=torch.float32, device=device)
    dist.recv(received, src=owner)
    return received.cpu()
