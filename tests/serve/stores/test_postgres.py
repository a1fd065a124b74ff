"""The same store code on PostgreSQL: many workers at once, with jobs cancelled under them."""

import os
import random
import threading

import pytest
from fake_generator import load
from sqlalchemy import func, select, text

from fw_model.errors import ConfigError
from serve.config import LeaseConfig, ServingConfig
from serve.errors import ConflictError
from serve.stores import idempotency, server_binding, shots, stories
from serve.stores.blobs import BlobStore
from serve.stores.database import Database, with_driver
from serve.stores.idempotency import IdempotencyKey
from serve.stores.shots import ShotSettings
from serve.stores.tables import UNFINISHED, Base, Chunk, Event, Idempotency, Job, Usage
from serve.work import jobs
from serve.work.worker import Worker

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(
        "FILMWEAVER_TEST_POSTGRES_URL" not in os.environ,
        reason="no PostgreSQL: set FILMWEAVER_TEST_POSTGRES_URL",
    ),
]


@pytest.fixture
def database():
    """An empty schema in the test server's database."""
    opened = Database(with_driver(os.environ["FILMWEAVER_TEST_POSTGRES_URL"]))
    with opened.writing() as session:
        session.execute(text("DROP SCHEMA public CASCADE"))
        session.execute(text("CREATE SCHEMA public"))
    opened.migrate()
    opened.migrate()
    yield opened
    opened.close()


def add_stories(database, count):
    for number in range(count):
        with database.writing() as session:
            now = database.clock()
            story = stories.create(
                session, title=f"{number}", seed=number, width=64, height=48, now=now
            )
            for prompt in ("a bear walks", "a cat jumps"):
                job = shots.create(
                    session, story.id, prompt=prompt, num_chunks=2, settings=ShotSettings(),
                    max_queued_jobs=1000, now=now,
                )  # fmt: skip
            shots.extend(
                session, job.shot_id, prompt="it waves", num_chunks=1, max_queued_jobs=1000, now=now
            )


def test_every_table_is_there(database):
    with database.reading() as session:
        names = set(session.scalars(text("SELECT tablename FROM pg_tables")))
    assert set(Base.metadata.tables) <= names


def test_a_reading_session_sees_one_snapshot(database):
    count = select(func.count()).select_from(Job)
    with database.reading() as session:
        assert session.scalar(count) == 0
        add_stories(database, 1)
        assert session.scalar(count) == 0
    with database.reading() as session:
        assert session.scalar(count) == 3


def test_the_first_model_binds_the_database(database):
    for rebind, model in ((False, "a"), (False, "a"), (True, "b"), (False, "b")):
        with database.writing() as session:
            server_binding.bind(session, server_binding.MODEL, model, rebind=rebind)
    with database.writing() as session, pytest.raises(ConfigError, match="rebind"):
        server_binding.bind(session, server_binding.MODEL, "a", rebind=False)


def test_many_workers_commit_every_chunk_once(database, tmp_path):
    add_stories(database, 5)
    lease = LeaseConfig(duration_s=1, heartbeat_s=0.3, poll_s=0.01, affinity_s=0)
    config = ServingConfig(data_dir=str(tmp_path), lease=lease)
    blobs = BlobStore(str(tmp_path / "blobs"))
    workers = [
        Worker(f"w{n}", database=database, blobs=blobs, loaded=load(), config=config)
        for n in range(4)
    ]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    chance, num_cancelled = random.Random(1), 0
    while True:
        with database.reading() as session:
            live = list(session.scalars(select(Job).where(Job.state.in_(UNFINISHED))))
        if not live:
            break
        if num_cancelled < 3 and chance.random() < 0.1:
            with database.writing() as session:
                try:
                    jobs.cancel(session, chance.choice(live).id, now=database.clock())
                    num_cancelled += 1
                except ConflictError:
                    pass  # it ended just before
    for worker, thread in zip(workers, threads, strict=True):
        worker.stop()
        thread.join()
    with database.reading() as session:
        assert session.scalars(select(Job).where(Job.state == "failed")).all() == []
        rows = list(session.scalars(select(Chunk)))
        assert {chunk.state for chunk in rows} == {"done"}
        assert session.scalar(select(func.count()).select_from(Usage)) == len(rows)
        done = select(func.count()).select_from(Event).where(Event.kind == "chunk.done")
        assert session.scalar(done) == len(rows)
        per_job = {job.id: job.num_done for job in session.scalars(select(Job))}
        for job_id, num_done in per_job.items():
            assert sum(chunk.job_id == job_id for chunk in rows) == num_done


def test_one_key_has_one_effect_however_many_ask_at_once(database):
    key, answers = IdempotencyKey("k", "f"), []

    def ask():
        with database.writing() as session:
            now = database.clock()

            def make():
                story = stories.create(session, title="a", seed=0, width=64, height=48, now=now)
                return {"story_id": story.id}

            answers.append(idempotency.once(session, key, make, now=now)["story_id"])

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(answers)) == 1
    with database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Idempotency)) == 1
