"""Money spent on captions: a journal per run beside the ledger, and one budget for all actors.

The journal is written before money is spent. A run that is killed has then recorded at least what
it spent, so all runs on one output together never exceed the budget.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import Any

import ray
from pydantic import TypeAdapter

from pipelines.curation.captioning.cost_estimate import CaptionEstimate
from pipelines.llm.budget import POLL_S, BudgetAccount, Refusal
from pipelines.storage.store import Store

SPENDING = "ledger/spending"
RUNS = "ledger/caption_runs"


@dataclass(frozen=True)
class RunRecord:
    """What one run was expected to cost, and what it did cost."""

    run_id: str
    created_at: str
    num_scenes: int
    estimate: CaptionEstimate
    requests: int
    prompt_tokens: int
    output_tokens: int
    cost_usd: float


def record_run(store: Store, record: RunRecord) -> None:
    """Record a run that has ended."""
    store.write(f"{RUNS}/{record.run_id}.json", json.dumps(asdict(record)).encode())


def recorded_runs(store: Store) -> list[RunRecord]:
    """Return the runs that have ended, oldest first."""
    read = TypeAdapter(RunRecord).validate_json
    runs = [read(store.read(key)) for key in store.keys(RUNS, ".json")]
    return sorted(runs, key=lambda run: run.created_at)


def spent_before(store: Store, run_id: str = "") -> float:
    """Return what all runs on this output except `run_id` have spent, USD."""
    keys = [key for key in store.keys(SPENDING, ".json") if key != _key(run_id)]
    return sum(_journaled_usd(store, key) for key in keys)


def spent_by(store: Store, run_id: str) -> float:
    """Return what one run has spent, USD."""
    return _journaled_usd(store, _key(run_id)) if store.exists(_key(run_id)) else 0.0


class JournaledAccount(BudgetAccount):
    """What is left of a budget for the run `run_id`, with its journal in the store.

    If it is opened again after a crash, everything that was reserved counts as spent.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        limit_usd: float | None,
        reservation_timeout_s: float | None = None,
    ) -> None:
        own_usd = spent_by(store, run_id)

        def journal(usd: float) -> None:
            entry = {"run_id": run_id, "usd": own_usd + usd}
            store.write(_key(run_id), json.dumps(entry).encode())

        super().__init__(
            limit_usd,
            spent_before(store, run_id) + own_usd,
            journal,
            reservation_timeout_s=reservation_timeout_s,
        )


class SharedBudget:
    """A handle to the run's account, which lives in an actor; every actor that spends gets a copy.

    `reservation_timeout_s` must be longer than any request takes. After that, what a dead actor has
    reserved counts as spent, so that the others do not wait forever.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        limit_usd: float | None,
        reservation_timeout_s: float | None = None,
    ) -> None:
        actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(JournaledAccount)
        self._account: Any = actor.remote(store, run_id, limit_usd, reservation_timeout_s)

    async def reserve(self, usd: float) -> str | None:
        while True:
            reserved: str | Refusal = await self._account.reserve.remote(usd)
            if reserved is not Refusal.NOT_YET:
                return None if reserved is Refusal.NEVER else reserved
            await asyncio.sleep(POLL_S)

    async def settle(self, reservation: str, spent_usd: float) -> None:
        await self._account.settle.remote(reservation, spent_usd)


def _key(run_id: str) -> str:
    return f"{SPENDING}/{run_id}.json"


def _journaled_usd(store: Store, key: str) -> float:
    return float(json.loads(store.read(key))["usd"])
