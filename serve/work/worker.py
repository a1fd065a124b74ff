"""The pull loop: claim a chunk, build its request from rows, draw it, commit it. Knows no Ray.

While a chunk is drawn, a second thread prolongs its lease and watches whether the claim still
holds; a claim that was lost (cancelled, deleted, taken over) stops the drawing at the next step.
"""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Self

from fw_model.diffusion.sampler import Cancelled
from fw_model.errors import FilmWeaverError, StorageError
from serve.config import LeaseConfig, ServingConfig
from serve.stores import keyframes
from serve.stores.blobs import BlobStore
from serve.stores.database import Database
from serve.work import jobs
from serve.work.chunk_io import ChunkExchange, ChunkPlan, read_plan
from serve.work.cleanup import sweep
from serve.work.generators import LoadedGenerator
from serve.work.jobs import MAX_RETRY_DELAY_S, Claim

log = logging.getLogger(__name__)
WATCH_S = 0.5  # how soon a cancelled chunk is noticed
SWEEP_EVERY_S = 3600.0


class Worker:
    """Draws chunks of any story, one at a time, until it is stopped."""

    def __init__(
        self,
        worker_id: str,
        *,
        database: Database,
        blobs: BlobStore,
        loaded: LoadedGenerator,
        config: ServingConfig,
    ) -> None:
        self.worker_id = worker_id
        self._database = database
        self._lease = config.lease
        self._exchange = ChunkExchange(blobs, loaded, fragment_crf=config.fragment_crf)
        self._stop = threading.Event()
        self._abandon = threading.Event()
        self._storage_failures = 0
        self._last_beat = 0.0
        self._blobs = blobs
        self._idempotency_s = config.limits.idempotency_hours * 3600
        self._next_sweep = time.monotonic()

    def run(self) -> None:
        """Work until `stop`; a store that is away is waited for."""
        log.info("worker %s is ready", self.worker_id)
        while not self._stop.is_set():
            try:
                worked = self.step()
            except StorageError as error:
                log.error("worker %s: %s", self.worker_id, error)
                worked = False
            if not worked:
                self._sweep_when_due()
                self._stop.wait(self._lease.poll_s)

    def stop(self, *, finish_chunk: bool = True) -> None:
        """End the loop after the chunk in hand, or at its next step if not `finish_chunk`."""
        if not finish_chunk:
            self._abandon.set()
        self._stop.set()

    def step(self) -> bool:
        """Claim and draw one chunk; False if there was none to claim."""
        self._beat_when_due()
        with self._database.writing() as session:
            claim = jobs.claim(
                session, self.worker_id, lease=self._lease, now=self._database.clock()
            )
        if claim is None:
            return False
        with LeaseKeeper(self._database, claim, self._lease, self.worker_id) as keeper:
            try:
                self._draw(claim, keeper)
                self._storage_failures = 0
            except Cancelled:
                self._release(claim, error=None, delay_s=0.0)
            except StorageError as error:
                self._wait_for_storage(claim, error)
            except FilmWeaverError as error:
                self._fail(claim, str(error), retry=False)
            except Exception as error:
                log.exception("chunk %s failed", claim.chunk_id)
                self._fail(claim, f"{type(error).__name__}: {error}", retry=True)
        return True

    def _draw(self, claim: Claim, keeper: LeaseKeeper) -> None:
        plan = self._plan(claim)
        if plan is None:
            return
        started = time.perf_counter()
        prepared = self._exchange.prepare(plan, claim)
        result = self._exchange.generate(
            prepared,
            on_step=keeper.note_step,
            should_cancel=lambda: keeper.is_lost or self._abandon.is_set(),
        )
        seconds = time.perf_counter() - started
        now = self._database.clock()
        commit = self._exchange.commit(plan, claim, prepared, result, seconds=seconds, now=now)
        with self._database.writing() as session:
            committed = jobs.commit(session, claim, commit, now=self._database.clock())
        if committed:
            log.info(
                "story %s shot %d chunk %d: %s in %.1f s",
                claim.story_id, plan.shot.index, claim.index, commit.mode, seconds,
            )  # fmt: skip
        else:
            log.warning("chunk %s epoch %d: claim lost, discarded", claim.chunk_id, claim.epoch)

    def _plan(self, claim: Claim) -> ChunkPlan | None:
        """Read the plan, after making keyframes of references that have none."""
        while True:
            with self._database.reading() as session:
                plan = read_plan(session, claim)
            if plan is None or not plan.missing_references:
                return plan
            for reference in plan.missing_references:
                now = self._database.clock()
                made = self._exchange.reference_keyframe(reference, plan.story, now=now)
                with self._database.writing() as session:
                    keyframes.add_of_reference(session, reference.id, made, now=now)

    def _release(self, claim: Claim, *, error: str | None, delay_s: float) -> None:
        with self._database.writing() as session:
            now = self._database.clock()
            jobs.release(session, claim, error=error, delay_s=delay_s, now=now)

    def _wait_for_storage(self, claim: Claim, error: StorageError) -> None:
        """A full disk is nobody's fault: the job waits, and says why, for as long as it takes."""
        log.error("chunk %s: %s", claim.chunk_id, error)
        delay = self._lease.retry_delay_s * 2 ** min(self._storage_failures, 10)
        self._storage_failures += 1
        reason = f"{error} It is tried again."
        self._release(claim, error=reason, delay_s=min(delay, MAX_RETRY_DELAY_S))

    def _fail(self, claim: Claim, error: str, *, retry: bool) -> None:
        log.error("chunk %s: %s", claim.chunk_id, error)
        with self._database.writing() as session:
            now = self._database.clock()
            jobs.fail(session, claim, error=error, retry=retry, lease=self._lease, now=now)

    def _sweep_when_due(self) -> None:
        if time.monotonic() < self._next_sweep:
            return
        self._next_sweep = time.monotonic() + SWEEP_EVERY_S
        try:
            sweep(self._database, self._blobs, idempotency_s=self._idempotency_s)
        except StorageError as error:  # the next one may have more luck
            log.warning("sweeping: %s", error)

    def _beat_when_due(self) -> None:
        now = self._database.clock()
        if now - self._last_beat >= self._lease.heartbeat_s:
            with self._database.writing() as session:
                jobs.beat_worker(session, self.worker_id, now=now)
            self._last_beat = now


class LeaseKeeper:
    """Prolongs a claim's lease in a thread for as long as the `with` block runs."""

    def __init__(
        self, database: Database, claim: Claim, lease: LeaseConfig, worker_id: str
    ) -> None:
        self._database = database
        self._claim = claim
        self._lease = lease
        self._worker_id = worker_id
        self._steps = (0, 0)
        self._ended = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    @property
    def is_lost(self) -> bool:
        """Whether a commit under the claim would be refused."""
        return self._lost.is_set()

    def note_step(self, step: int, num_steps: int) -> None:
        """Tell which denoising step is done; written with the next heartbeat."""
        self._steps = (step, num_steps)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        last_beat = time.monotonic()
        while not self._ended.wait(min(WATCH_S, self._lease.heartbeat_s)):
            try:
                if time.monotonic() - last_beat >= self._lease.heartbeat_s:
                    held = self._beat()
                    last_beat = time.monotonic()
                else:
                    with self._database.reading() as session:
                        held = jobs.holds(session, self._claim)
            except StorageError as error:  # the fence decides at commit; until then, go on
                log.warning("heartbeat of chunk %s: %s", self._claim.chunk_id, error)
                continue
            if not held:
                self._lost.set()
                return

    def _beat(self) -> bool:
        step, num_steps = self._steps
        now = self._database.clock()
        with self._database.writing() as session:
            jobs.beat_worker(session, self._worker_id, now=now)
            return jobs.heartbeat(
                session, self._claim, lease=self._lease, step=step, num_steps=num_steps, now=now
            )
