"""Money spent on captions: a journal beside the ledger, and one purse for all captioning actors.

The journal is written before money is spent: a run that is killed has noted at least what it
spent, so the runs on one output together never exceed the budget.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass
from typing import Any

import ray

from pipelines.curation.captioners.limits import POLL_S, Budget, NotNow
from pipelines.storage.store import Store

SPENDING = "ledger/spending"
RUNS = "ledger/caption_runs"


@dataclass(frozen=True)
class RunRecord:
    """What one run was expected to cost, and what it did. `estimate` is a CaptionEstimate."""

    run_id: str
    created_at: str
    num_scenes: int
    estimate: dict[str, Any]
    requests: int
    prompt_tokens: int
    output_tokens: int
    cost_usd: float


def record_run(store: Store, record: RunRecord) -> None:
    """Note a run that has ended."""
    store.write(f"{RUNS}/{record.run_id}.json", json.dumps(asdict(record)).encode())


def recorded_runs(store: Store) -> list[dict[str, Any]]:
    """Return the runs that have ended, oldest first."""
    runs = [json.loads(store.read(key)) for key in store.keys(RUNS, ".json")]
    return sorted(runs, key=lambda run: str(run["created_at"]))


def spent_before(store: Store, run_id: str = "") -> float:
    """Return what all runs on this output have spent, USD, but for the run `run_id`."""
    keys = [key for key in store.keys(SPENDING, ".json") if key != _key(run_id)]
    return sum(_noted(store, key) for key in keys)


def spent_by(store: Store, run_id: str) -> float:
    """Return what one run has spent, USD."""
    return _noted(store, _key(run_id)) if store.exists(_key(run_id)) else 0.0


def open_budget(
    store: Store, run_id: str, limit_usd: float | None, hold_s: float | None = None
) -> Budget:
    """Return what is left of a budget to the run `run_id`, noting what it spends."""
    before_usd, own_usd = spent_before(store, run_id), spent_by(store, run_id)

    def note(usd: float) -> None:
        told = json.dumps({"run_id": run_id, "usd": own_usd + usd})
        store.write(_key(run_id), told.encode())

    return Budget(limit_usd, before_usd + own_usd, note, hold_s=hold_s)


class _Till:
    """The budget of a run, in one place. A till that died counts all it had set aside as spent."""

    def __init__(
        self, store: Store, run_id: str, limit_usd: float | None, hold_s: float | None
    ) -> None:
        self._budget = open_budget(store, run_id, limit_usd, hold_s)

    def reserve(self, usd: float) -> tuple[bool, str | None]:
        """Return whether the answer is final, and the name of the hold."""
        try:
            return True, self._budget.reserve(usd)
        except NotNow:
            return False, None

    def settle(self, hold: str, spent_usd: float) -> None:
        """Say what a hold has cost."""
        self._budget.settle(hold, spent_usd)


class SharedPurse:
    """A handle of the run's till, to be sent to every actor that spends.

    `hold_s` is longer than any request takes: what an actor that died had set aside is then spent,
    so that the others do not wait for it.
    """

    def __init__(
        self, store: Store, run_id: str, limit_usd: float | None, hold_s: float | None = None
    ) -> None:
        lasting = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
        self._till: Any = lasting(_Till).remote(store, run_id, limit_usd, hold_s)

    async def reserve(self, usd: float) -> str | None:
        while True:
            answer: tuple[bool, str | None] = await self._till.reserve.remote(usd)
            is_final, hold = answer
            if is_final:
                return hold
            await asyncio.sleep(POLL_S)

    async def settle(self, hold: str, spent_usd: float) -> None:
        await self._till.settle.remote(hold, spent_usd)


def _key(run_id: str) -> str:
    return f"{SPENDING}/{run_id}.json"


def _noted(store: Store, key: str) -> float:
    return float(json.loads(store.read(key))["usd"])
