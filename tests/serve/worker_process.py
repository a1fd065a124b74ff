"""A worker in a process of its own, to be killed: draws chunks until the queue is empty."""

import os
from pathlib import Path


def work(data_dir, name, step_s):
    """Open the stores under `data_dir` as a server would, and work the queue off."""
    from fake_generator import load

    from serve.config import LeaseConfig, ServingConfig
    from serve.stores.blobs import BlobStore
    from serve.stores.database import Database
    from serve.work.worker import Worker

    os.environ["FAKE_STEP_S"] = str(step_s)
    config = ServingConfig(
        data_dir=data_dir,
        lease=LeaseConfig(duration_s=0.5, heartbeat_s=0.2, poll_s=0.01, affinity_s=0),
    )
    database = Database(f"sqlite:///{Path(data_dir, 'filmweaver.db')}")
    blobs = BlobStore(str(Path(data_dir, "blobs")))
    worker = Worker(name, database=database, blobs=blobs, loaded=load(), config=config)
    while not _is_done(database):
        worker.step()


def _is_done(database):
    from sqlalchemy import func, select

    from serve.stores.tables import UNFINISHED, Job

    with database.reading() as session:
        query = select(func.count()).select_from(Job).where(Job.state.in_(UNFINISHED))
        return session.scalar(query) == 0
