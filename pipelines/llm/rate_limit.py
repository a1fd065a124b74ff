"""Spaces requests evenly, and pauses all of them when the endpoint asks for it.

Knows nothing about event loops. Unlike aiolimiter's leaky bucket, one limit serves one
`asyncio.run` after another, and it can be paused.
"""

from __future__ import annotations

import asyncio
import time


class RateLimit:
    """Lets through at most `requests_per_minute`, evenly spaced; None is no limit."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._gap_s = 0.0 if requests_per_minute is None else 60.0 / requests_per_minute
        self._next_s = 0.0

    async def wait(self) -> None:
        """Return when the next request may be sent."""
        while (wait_s := self._next_s - time.monotonic()) > 0:
            await asyncio.sleep(wait_s)
        self._next_s = time.monotonic() + self._gap_s

    def pause(self, seconds: float) -> None:
        """Let no request through for this long."""
        self._next_s = max(self._next_s, time.monotonic() + seconds)
