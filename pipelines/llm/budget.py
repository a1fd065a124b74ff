"""A spending limit: money is reserved before a request and settled after it.

Knows nothing about requests, nor about where a journal is kept.
"""

from __future__ import annotations

import asyncio
import enum
import time
import uuid
from collections.abc import Callable
from typing import Protocol

JOURNAL_AHEAD = 0.01  # share of the limit journaled in advance, so that few requests write
JOURNAL_AHEAD_REQUESTS = 16  # without a limit: requests journaled in advance
POLL_S = 0.05


class Refusal(enum.Enum):
    """Why an amount cannot be reserved."""

    NOT_YET = "not yet"  # it is reserved for requests in flight, which may cost less
    NEVER = "never"  # too much is spent already


class BudgetAccount:
    """What is spent and reserved, against a limit. A limit of None is no limit.

    `spent_usd` was spent by earlier runs. `journal` is called before money is reserved, with the
    most that this run may have spent, so that a killed run has recorded at least what it owes.
    A reservation older than `reservation_timeout_s` counts as spent: its owner died, and its
    request may have cost that much.
    """

    def __init__(
        self,
        limit_usd: float | None,
        spent_usd: float = 0.0,
        journal: Callable[[float], None] | None = None,
        *,
        reservation_timeout_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit_usd = limit_usd
        self._before_usd = self._settled_usd = self._journaled_usd = spent_usd
        self._reserved: dict[str, tuple[float, float]] = {}  # id -> USD, time
        self._journal = journal
        self._timeout_s, self._clock = reservation_timeout_s, clock

    @property
    def spent_usd(self) -> float:
        """What this and earlier runs have spent, without what is reserved."""
        return self._settled_usd

    def reserve(self, usd: float) -> str | Refusal:
        """Reserve `usd` and return the id of the reservation, or why that cannot be done."""
        self._settle_expired()
        if self._exceeds(self._settled_usd + usd):
            return Refusal.NEVER
        total_usd = self._settled_usd + sum(held for held, _ in self._reserved.values()) + usd
        if self._exceeds(total_usd):
            return Refusal.NOT_YET
        self._journal_ahead(total_usd, usd)
        reservation = uuid.uuid4().hex
        self._reserved[reservation] = (usd, self._clock())
        return reservation

    def settle(self, reservation: str, spent_usd: float) -> None:
        """Replace a reservation by what was spent; an unknown one has expired: it is spent."""
        if self._reserved.pop(reservation, None) is None:
            return
        self._settled_usd += spent_usd
        if not self._reserved and self._journaled_usd != self._settled_usd:
            self._write_journal(self._settled_usd)

    def _settle_expired(self) -> None:
        if self._timeout_s is None:
            return
        oldest = self._clock() - self._timeout_s
        for reservation, (usd, made) in list(self._reserved.items()):
            if made < oldest:
                del self._reserved[reservation]
                self._settled_usd += usd

    def _exceeds(self, usd: float) -> bool:
        return self._limit_usd is not None and usd > self._limit_usd

    def _journal_ahead(self, total_usd: float, usd: float) -> None:
        if total_usd <= self._journaled_usd:
            return
        if self._limit_usd is None:
            self._write_journal(total_usd + JOURNAL_AHEAD_REQUESTS * usd)
        else:
            ahead_usd = total_usd + JOURNAL_AHEAD * self._limit_usd
            self._write_journal(min(self._limit_usd, ahead_usd))

    def _write_journal(self, usd: float) -> None:
        if self._journal is not None:
            self._journal(usd - self._before_usd)
        self._journaled_usd = usd


class Budget(Protocol):
    """A spending limit that several clients may share."""

    async def reserve(self, usd: float) -> str | None:
        """Reserve `usd` as soon as it is available; None if it never will be."""
        ...

    async def settle(self, reservation: str, spent_usd: float) -> None:
        """Report what a reservation has cost."""
        ...


class LocalBudget:
    """The budget of this process alone."""

    def __init__(self, account: BudgetAccount) -> None:
        self._account = account

    async def reserve(self, usd: float) -> str | None:
        while (reserved := self._account.reserve(usd)) is Refusal.NOT_YET:
            await asyncio.sleep(POLL_S)
        return None if reserved is Refusal.NEVER else reserved

    async def settle(self, reservation: str, spent_usd: float) -> None:
        self._account.settle(reservation, spent_usd)
