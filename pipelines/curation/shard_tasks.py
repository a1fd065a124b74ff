"""Calls of pure functions, as tasks on the cluster or, for one shard, right here.

The driver keeps only references to results, and few calls wait at a time, so its memory does not
grow with what they handle. Knows nothing about what the functions do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import ray
from ray.exceptions import RayTaskError

from fw_model.errors import FilmWeaverError

FEWEST_WAITING = 16
WAITING_PER_CPU = 2


class ShardTasks:
    """Runs functions over shards: on the cluster, or in this process if `is_local`.

    A result may be given to another call as an argument, without passing through the driver.
    """

    def __init__(self, *, is_local: bool) -> None:
        self.is_local = is_local

    def put(self, value: object) -> Any:
        """Return what stands for a value that many calls need."""
        return value if self.is_local else ray.put(value)

    def submit(
        self, function: Callable[..., Any], *arguments: object, parts: int = 1, cpus: float = 1.0
    ) -> Any:
        """Return the result of a call, or a reference to it; of `parts` results, a list."""
        if self.is_local:
            return function(*arguments)
        return _remote(function).options(num_cpus=cpus, num_returns=parts).remote(*arguments)

    def each(
        self,
        function: Callable[..., Any],
        arguments: Iterable[tuple[object, ...]],
        *,
        parts: int = 1,
    ) -> Iterator[Any]:
        """Submit a call for each tuple of arguments, few at a time; yield what `submit` returns, in
        order, once it is ready."""
        waiting: deque[Any] = deque()
        for found in arguments:
            waiting.append(self.submit(function, *found, parts=parts))
            if self.is_local or len(waiting) >= self._most_waiting():
                yield self._ready(waiting.popleft())
        while waiting:
            yield self._ready(waiting.popleft())

    def get(self, result: Any) -> Any:
        """Return the value of a result; what the call raised is raised here."""
        if self.is_local:
            return result
        try:
            return ray.get(result)
        except RayTaskError as error:
            if isinstance(error.cause, FilmWeaverError):
                raise error.cause from None
            raise

    def _ready(self, result: Any) -> Any:
        if not self.is_local:
            references = result if isinstance(result, list) else [result]
            ray.wait(references, num_returns=len(references), fetch_local=False)
        return result

    def _most_waiting(self) -> int:
        return max(FEWEST_WAITING, int(WAITING_PER_CPU * ray.cluster_resources().get("CPU", 1)))


@cache
def _remote(function: Callable[..., Any]) -> Any:
    """Return the remote function, one for all calls: each is sent to the cluster anew."""
    return ray.remote(function)
