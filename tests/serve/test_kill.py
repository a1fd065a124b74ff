"""Workers killed with -9 at random moments: nothing committed is lost, redone or changed."""

import multiprocessing
import random
import time

import pytest
from sqlalchemy import func, select
from worker_process import work

from serve.stores import shots
from serve.stores.tables import Chunk, Event, Keyframe, Retrieval, Usage

STEP_S = 0.03  # four steps a chunk
NUM_CHUNKS = 12  # of the two stories together
NUM_KILLS = 6


@pytest.fixture(scope="module")
def forkserver():
    """Starts processes that have the heavy modules imported already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["serve.work.worker", "fw_model.diffusion.sampler"])
    return context


def committed(context):
    """What has been committed: chunk id -> all that must never change."""
    with context.database.reading() as session:
        rows = session.scalars(select(Chunk).where(Chunk.state == "done"))
        return {c.id: (c.index, c.latents_blob, c.fragment_blob, c.committed_at) for c in rows}


def write_story(client, seed=11):
    story = client.post("/v1/stories", json={"title": "killed", "seed": seed}).json()
    for prompt in ("a bear walks", "a cat jumps by the sea"):
        job = client.post(
            f"/v1/stories/{story['story_id']}/shots", json={"prompt": prompt, "num_chunks": 2}
        ).json()
        url = f"/v1/shots/{job['shot_id']}/extend"
        client.post(url, json={"prompt": f"{prompt}, then waves", "num_chunks": 1})
    return story


def test_a_story_survives_kill_9_at_random_moments(client, context, config, forkserver, work_off):
    story, other = write_story(client), write_story(client)
    chance = random.Random(4)
    num_kills, before = 0, {}
    deadline = time.monotonic() + 120
    while True:
        assert time.monotonic() < deadline
        workers = [
            forkserver.Process(target=work, args=(config.data_dir, f"w{num_kills}-{i}", STEP_S))
            for i in range(2)
        ]
        for worker in workers:
            worker.start()
        wait_s = chance.uniform(0.3, 1.2) if num_kills < NUM_KILLS else 30
        workers[0].join(timeout=wait_s)
        workers[1].join(timeout=0.1 if num_kills < NUM_KILLS else 30)
        for worker in workers:
            if worker.is_alive():
                worker.kill()
                worker.join()
                num_kills += 1
            else:
                assert worker.exitcode == 0
        after = committed(context)
        assert before.items() <= after.items(), "a committed chunk was lost or changed"
        before = after
        if len(after) == NUM_CHUNKS:
            break
    with context.database.reading() as session:
        epochs = session.scalar(select(func.sum(Chunk.epoch)))
        assert epochs <= NUM_CHUNKS + num_kills, "only chunks in flight are drawn again"
        assert session.scalar(select(func.count()).select_from(Usage)) == NUM_CHUNKS
        done = select(func.count()).select_from(Event).where(Event.kind == "chunk.done")
        assert session.scalar(done) == NUM_CHUNKS
        orphans = select(Keyframe.id).outerjoin(Chunk, Chunk.id == Keyframe.chunk_id)
        assert session.scalars(orphans.where(Chunk.state != "done")).all() == []
        assert session.scalar(select(func.count()).select_from(Retrieval)) > 0
        killed = [c.latents_blob for c in shots.film_chunks(session, story["story_id"])]
        twin = [c.latents_blob for c in shots.film_chunks(session, other["story_id"])]
    assert num_kills >= NUM_KILLS // 2
    assert killed == twin, "the same story drawn twice is the same, whatever was killed"
    calm = write_story(client)
    work_off()
    with context.database.reading() as session:
        unharmed = [c.latents_blob for c in shots.film_chunks(session, calm["story_id"])]
    assert killed == unharmed
