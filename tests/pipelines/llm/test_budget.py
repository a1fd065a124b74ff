"""A budget is never exceeded, whatever happens to those that spend it."""

import asyncio

import pytest

from pipelines.llm.budget import BudgetAccount, LocalBudget, Refusal


def test_money_comes_back_when_less_was_spent_and_never_when_it_is_gone():
    account = BudgetAccount(1.0)
    first = account.reserve(0.6)
    assert account.reserve(0.6) is Refusal.NOT_YET
    account.settle(first, 0.3)
    second = account.reserve(0.6)
    account.settle(second, 0.5)
    assert account.spent_usd == pytest.approx(0.8)
    assert account.reserve(0.6) is Refusal.NEVER
    account.settle("unknown", 5.0)
    assert account.spent_usd == pytest.approx(0.8)


def test_what_a_dead_actor_has_reserved_counts_as_spent_after_the_timeout():
    now = [0.0]
    account = BudgetAccount(1.0, reservation_timeout_s=60.0, clock=lambda: now[0])
    account.reserve(0.6)  # and is never settled
    late = account.reserve(0.3)
    assert account.reserve(0.2) is Refusal.NOT_YET
    now[0] = 61.0
    assert account.reserve(0.2) is Refusal.NEVER  # 0.9 is spent: waiting would not help
    account.settle(late, 0.0)
    assert account.spent_usd == pytest.approx(0.9)
    assert isinstance(account.reserve(0.1), str)


def test_a_client_waits_for_money_that_comes_back():
    account = BudgetAccount(1.0)
    budget = LocalBudget(account)

    async def both():
        first = await budget.reserve(0.8)
        waiting = asyncio.create_task(budget.reserve(0.8))
        await asyncio.sleep(0)
        assert not waiting.done()
        await budget.settle(first, 0.1)
        assert isinstance(await waiting, str)
        assert await budget.reserve(1.0) is None

    asyncio.run(both())


def test_the_journal_is_written_before_the_money_is_spent_and_corrected_at_the_end():
    journal = []
    account = BudgetAccount(10.0, spent_usd=2.0, journal=journal.append)
    reservations = [account.reserve(1.0) for _ in range(3)]
    assert journal[-1] >= 3.0
    for reservation in reservations:
        account.settle(reservation, 0.5)
    assert journal[-1] == pytest.approx(1.5)
