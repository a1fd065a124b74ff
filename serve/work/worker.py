"""The worker loop: claim a chunk, build its request, generate it, commit it. Knows nothing of Ray.

While a chunk is generated, a second thread extends its lease and checks that the claim is still
valid; generation stops at the next denoising step if it is not (cancelled, deleted, taken over).
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Self

from fw_model.diffusion.sampler import Cancelled
from fw_model.errors import FilmWeaverError, StorageError
from serve.config import LeaseConfig, ServingConfig
from serve.stores import keyframes
from serve.stores.blobs import BlobStore
from serve.stores.database import Database
from serve.work import jobs
from serve.work.chunk_io import ChunkInputs, ChunkIO, read_inputs
from serve.work.cleanup import clean_up
from serve.work.generators import LoadedGenerator
from serve.work.jobs import MAX_RETRY_DELAY_S, Claim

log = logging.getLogger(__name__)
CLAIM_CHECK_S = 0.5  # the longest time until a cancelled chunk is noticed
CLEANUP_INTERVAL_S = 3600.0


class Worker:
    """Generates chunks of any story, one at a time, until it is stopped."""

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
        self._generator = loaded.generator
        self._chunk_io = ChunkIO(blobs, loaded, fragment_crf=config.fragment_crf)
        self._stop = threading.Event()
        self._storage_failures = 0
        self._last_heartbeat = 0.0
        self._blobs = blobs
        self._idempotency_s = config.limits.idempotency_hours * 3600
        self._next_cleanup = time.monotonic()

    def run(self) -> None:
        """Work until `stop`; waits for a store that cannot be reached."""
        log.info("worker %s is ready", self.worker_id)
        while not self._stop.is_set():
            try:
                worked = self.step()
            except StorageError as error:
                log.error("worker %s: %s", self.worker_id, error)
                worked = False
            if not worked:
                self._clean_up_when_due()
                self._stop.wait(self._lease.poll_s)

    def stop(self) -> None:
        """End the loop after the current chunk."""
        self._stop.set()

    def step(self) -> bool:
        """Claim and generate one chunk; False if there was none to claim."""
        self._heartbeat_when_due()
        with self._database.writing() as session:
            claim = jobs.claim(
                session, self.worker_id, lease=self._lease, now=self._database.clock()
            )
        if claim is None:
            return False
        with LeaseKeeper(self._database, claim, self._lease, self.worker_id) as keeper:
            try:
                self._generate(claim, keeper)
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

    def _generate(self, claim: Claim, keeper: LeaseKeeper) -> None:
        inputs = self._read_inputs(claim)
        if inputs is None:
            return
        started = time.perf_counter()
        prepared = self._chunk_io.prepare(inputs)
        result = self._generator.generate_chunk(
            prepared.request, on_step=keeper.note_step, should_cancel=keeper.is_lost
        )
        seconds = time.perf_counter() - started
        now = self._database.clock()
        commit = self._chunk_io.store_result(inputs, prepared, result, seconds=seconds, now=now)
        with self._database.writing() as session:
            committed = jobs.commit(session, claim, commit, now=self._database.clock())
        if committed:
            log.info(
                "story %s shot %d chunk %d: %s in %.1f s",
                claim.story_id, inputs.shot.index, claim.index, commit.mode, seconds,
            )  # fmt: skip
        else:
            log.warning(
                "chunk %s: the claim of epoch %d was lost; its result is discarded",
                claim.chunk_id, claim.epoch,
            )  # fmt: skip

    def _read_inputs(self, claim: Claim) -> ChunkInputs | None:
        """Read the inputs of a chunk, after making the missing keyframes of references."""
        while True:
            with self._database.reading() as session:
                inputs = read_inputs(session, claim)
            if inputs is None or not inputs.references_without_keyframe:
                return inputs
            for reference in inputs.references_without_keyframe:
                now = self._database.clock()
                keyframe = self._chunk_io.reference_keyframe(reference, inputs.story, now=now)
                with self._database.writing() as session:
                    keyframes.add_for_reference(session, reference.id, keyframe, now=now)

    def _release(self, claim: Claim, *, error: str | None, delay_s: float) -> None:
        with self._database.writing() as session:
            now = self._database.clock()
            jobs.release(session, claim, error=error, delay_s=delay_s, now=now)

    def _wait_for_storage(self, claim: Claim, error: StorageError) -> None:
        """Retry for as long as it takes; the job shows the reason meanwhile."""
        log.error("chunk %s: %s", claim.chunk_id, error)
        delay = self._lease.retry_delay_s * 2 ** min(self._storage_failures, 10)
        self._storage_failures += 1
        reason = f"{error} The server keeps retrying."
        self._release(claim, error=reason, delay_s=min(delay, MAX_RETRY_DELAY_S))

    def _fail(self, claim: Claim, error: str, *, retry: bool) -> None:
        log.error("chunk %s: %s", claim.chunk_id, error)
        with self._database.writing() as session:
            now = self._database.clock()
            jobs.fail(session, claim, error=error, retry=retry, lease=self._lease, now=now)

    def _clean_up_when_due(self) -> None:
        if time.monotonic() < self._next_cleanup:
            return
        self._next_cleanup = time.monotonic() + CLEANUP_INTERVAL_S
        try:
            clean_up(self._database, self._blobs, idempotency_s=self._idempotency_s)
        except StorageError as error:  # not urgent: the next cleanup tries again
            log.warning("cleanup: %s", error)

    def _heartbeat_when_due(self) -> None:
        now = self._database.clock()
        if now - self._last_heartbeat >= self._lease.heartbeat_s:
            with self._database.writing() as session:
                jobs.record_alive(session, self.worker_id, now=now)
            self._last_heartbeat = now


class LeaseKeeper:
    """Extends the lease of a claim from a thread for as long as the `with` block runs."""

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

    def is_lost(self) -> bool:
        """Whether a commit under the claim would be refused."""
        return self._lost.is_set()

    def note_step(self, step: int, num_steps: int) -> None:
        """Record the denoising step; it is stored with the next heartbeat."""
        self._steps = (step, num_steps)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        last_heartbeat = time.monotonic()
        while not self._ended.wait(min(CLAIM_CHECK_S, self._lease.heartbeat_s)):
            try:
                if time.monotonic() - last_heartbeat >= self._lease.heartbeat_s:
                    is_valid = self._heartbeat()
                    last_heartbeat = time.monotonic()
                else:
                    with self._database.reading() as session:
                        is_valid = jobs.is_valid(session, self._claim)
            except StorageError as error:  # the commit decides; continue until then
                log.warning("heartbeat of chunk %s: %s", self._claim.chunk_id, error)
                continue
            if not is_valid:
                self._lost.set()
                return

    def _heartbeat(self) -> bool:
        step, num_steps = self._steps
        now = self._database.clock()
        with self._database.writing() as session:
            jobs.record_alive(session, self._worker_id, now=now)
            return jobs.heartbeat(
                session, self._claim, lease=self._lease, step=step, num_steps=num_steps, now=now
            )
