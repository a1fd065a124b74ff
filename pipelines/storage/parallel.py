"""Several requests to a store at the same time: each mostly waits.

Knows nothing about what is requested.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

REQUESTS_TOGETHER = 24
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(action: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return the result of `action` for each item, in order."""
    found = list(items)
    if len(found) < 2:
        return [action(item) for item in found]
    with ThreadPoolExecutor(min(REQUESTS_TOGETHER, len(found))) as pool:
        return list(pool.map(action, found))


def map_ahead(
    action: Callable[[Item], Result], items: Iterable[Item], *, ahead: int
) -> Iterator[Result]:
    """Yield the result of `action` for each item, in order, while the next few are under way."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(ahead) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(action, item))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
