"""What a paid endpoint must not be asked for: more money, or more requests, than was allowed."""

from __future__ import annotations

import asyncio
import time


class Budget:
    """Money that is reserved before it is spent. None: no limit."""

    def __init__(self, limit_usd: float | None) -> None:
        self._limit_usd = limit_usd
        self._taken_usd = 0.0

    def reserve(self, usd: float) -> bool:
        """Set `usd` aside; False if that would exceed the limit."""
        if self._limit_usd is not None and self._taken_usd + usd > self._limit_usd:
            return False
        self._taken_usd += usd
        return True

    def settle(self, reserved_usd: float, spent_usd: float) -> None:
        """Give back what was reserved and not spent."""
        self._taken_usd += spent_usd - reserved_usd


class RateLimit:
    """Lets requests through evenly, at most so many a minute. None: no limit."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._gap_s = 0.0 if requests_per_minute is None else 60.0 / requests_per_minute
        self._next_s = 0.0

    async def wait(self) -> None:
        """Return when the next request may be sent."""
        now_s = time.monotonic()
        turn_s = max(now_s, self._next_s)
        self._next_s = turn_s + self._gap_s
        if turn_s > now_s:
            await asyncio.sleep(turn_s - now_s)
