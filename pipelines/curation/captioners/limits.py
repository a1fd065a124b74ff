"""What a paid endpoint must not be asked for: more money, or more requests, than was allowed."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import Protocol

NOTE_STEP = 0.01  # share of the limit that is noted ahead, so that not every request is
NOTE_REQUESTS = 16  # where there is no limit: requests that are noted ahead
POLL_S = 0.05


class NotNow(Exception):
    """The money is set aside for requests under way, and may come back."""


class Budget:
    """Money that is set aside before it is spent. A limit of None is no limit.

    `spent_usd` was spent before. `note` is told, before money is set aside, how much may have been
    spent since: a run that is killed has noted at least what it owes. What was set aside more than
    `hold_s` ago counts as spent: whoever asked for it is gone, and its request may have cost that.
    """

    def __init__(
        self,
        limit_usd: float | None,
        spent_usd: float = 0.0,
        note: Callable[[float], None] | None = None,
        *,
        hold_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_usd = limit_usd
        self._before_usd = self._settled_usd = spent_usd
        self._held: dict[str, tuple[float, float]] = {}  # money, and since when
        self._hold_s, self._clock = hold_s, clock
        self._note = note
        self._noted_usd = spent_usd

    @property
    def spent_usd(self) -> float:
        """What was spent, earlier runs included, without what is set aside."""
        return self._settled_usd

    def reserve(self, usd: float) -> str | None:
        """Set `usd` aside and return the name of the hold, None if the limit forbids it for good;
        NotNow if it depends on requests under way."""
        self._forget_the_gone()
        if self._exceeds(self._settled_usd + usd):
            return None
        taken_usd = self._settled_usd + sum(held for held, _ in self._held.values()) + usd
        if self._exceeds(taken_usd):
            raise NotNow
        self._note_ahead(taken_usd, usd)
        hold = uuid.uuid4().hex
        self._held[hold] = (usd, self._clock())
        return hold

    def settle(self, hold: str, spent_usd: float) -> None:
        """Give back what was set aside and not spent. A hold that is not known counts as spent."""
        if self._held.pop(hold, None) is None:
            return
        self._settled_usd += spent_usd
        if not self._held and self._note is not None and self._noted_usd != self._settled_usd:
            self._tell(self._settled_usd)

    def _forget_the_gone(self) -> None:
        if self._hold_s is None:
            return
        too_old = self._clock() - self._hold_s
        for hold in [hold for hold, (_, since) in self._held.items() if since < too_old]:
            self._settled_usd += self._held.pop(hold)[0]

    def _exceeds(self, usd: float) -> bool:
        return self._limit_usd is not None and usd > self._limit_usd

    def _note_ahead(self, taken_usd: float, usd: float) -> None:
        if self._note is None or taken_usd <= self._noted_usd:
            return
        if self._limit_usd is None:
            self._tell(taken_usd + NOTE_REQUESTS * usd)
        else:
            self._tell(min(self._limit_usd, taken_usd + NOTE_STEP * self._limit_usd))

    def _tell(self, usd: float) -> None:
        assert self._note is not None
        self._note(usd - self._before_usd)
        self._noted_usd = usd


class Purse(Protocol):
    """A budget that several may share."""

    async def reserve(self, usd: float) -> str | None:
        """Set `usd` aside as soon as it is there; None if it never will be."""
        ...

    async def settle(self, hold: str, spent_usd: float) -> None:
        """Say what a hold has cost."""
        ...


class OwnPurse:
    """A budget of this process alone."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    async def reserve(self, usd: float) -> str | None:
        while True:
            try:
                return self._budget.reserve(usd)
            except NotNow:
                await asyncio.sleep(POLL_S)

    async def settle(self, hold: str, spent_usd: float) -> None:
        self._budget.settle(hold, spent_usd)


class RateLimit:
    """Lets requests through evenly, at most so many a minute. None: no limit."""

    def __init__(self, requests_per_minute: float | None) -> None:
        self._gap_s = 0.0 if requests_per_minute is None else 60.0 / requests_per_minute
        self._next_s = 0.0

    async def wait(self) -> None:
        """Return when the next request may be sent."""
        while (turn_s := max(time.monotonic(), self._next_s)) > time.monotonic():
            await asyncio.sleep(turn_s - time.monotonic())
        self._next_s = time.monotonic() + self._gap_s

    def hold(self, wait_s: float) -> None:
        """Let nothing through for `wait_s`: the endpoint has asked for it."""
        self._next_s = max(self._next_s, time.monotonic() + wait_s)
