"""Claims, leases and fencing, with workers that stall, die and come back."""

import pytest
from fake_generator import FakeGenerator
from sqlalchemy import select

from serve.config import LeaseConfig
from serve.stores.tables import Chunk, Event, Job, Keyframe, Usage
from serve.work import jobs

LEASE = LeaseConfig(duration_s=15, heartbeat_s=5, poll_s=0.01, affinity_s=0)


@pytest.fixture
def claim(context):
    """Claim the next chunk for a named worker."""

    def take(worker="worker-1", lease=LEASE):
        with context.database.writing() as session:
            return jobs.claim(session, worker, lease=lease, now=context.database.clock())

    return take


@pytest.fixture
def rows(context):
    """All rows of a table."""

    def read(table):
        with context.database.reading() as session:
            return list(session.scalars(select(table)))

    return read


def test_chunks_of_a_story_are_claimed_one_at_a_time_and_in_order(add_shot, claim):
    add_shot(num_chunks=2)
    assert claim("worker-1").index == 0
    assert claim("worker-2") is None


def test_two_stories_are_worked_on_at_once(client, claim):
    for title in ("one", "two"):
        story = client.post("/v1/stories", json={"title": title}).json()
        client.post(f"/v1/stories/{story['story_id']}/shots", json={"prompt": "a bear"})
    first, second = claim("worker-1"), claim("worker-2")
    assert first.story_id != second.story_id


def test_a_claim_is_free_again_when_its_lease_runs_out(add_shot, claim, context):
    add_shot(num_chunks=1)
    first = claim("worker-1")
    context.database.clock.now += 14
    assert claim("worker-2") is None
    context.database.clock.now += 2
    second = claim("worker-2")
    assert second.chunk_id == first.chunk_id
    assert second.epoch == first.epoch + 1


def test_a_heartbeat_prolongs_the_lease_and_shows_progress(client, add_shot, claim, context):
    job = add_shot(num_chunks=1)
    first = claim("worker-1")
    context.database.clock.now += 14
    with context.database.writing() as session:
        now = context.database.clock()
        assert jobs.heartbeat(session, first, lease=LEASE, step=3, num_steps=8, now=now)
    context.database.clock.now += 14
    assert claim("worker-2") is None
    shown = client.get(job["url"]).json()
    assert (shown["state"], shown["step"], shown["num_steps"]) == ("running", 3, 8)


def test_a_worker_that_was_thought_dead_commits_nothing(
    client, add_shot, context, make_worker, work_off, rows
):
    job = add_shot(num_chunks=2)

    def stall(request):
        if request.chunk == 0:
            context.database.clock.now += 60
            work_off(make_worker("worker-2"))

    assert make_worker("worker-1", FakeGenerator(on_chunk=stall)).step()
    assert client.get(job["url"]).json()["num_done"] == 2
    assert [(c.index, c.state, c.epoch, c.worker_id) for c in rows(Chunk)] == [
        (0, "done", 2, "worker-2"),
        (1, "done", 1, "worker-2"),
    ]
    assert len(rows(Usage)) == 2
    assert [e.kind for e in rows(Event)].count("chunk.done") == 2


def test_a_crash_between_blob_and_commit_costs_one_chunk(
    client, add_shot, context, make_worker, work_off, rows, monkeypatch
):
    job = add_shot(num_chunks=2)
    work = make_worker("worker-1")
    work.step()
    before = {c.id: (c.latents_blob, c.committed_at) for c in rows(Chunk) if c.state == "done"}

    class Crash(BaseException):
        """The process ends here."""

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "commit", lambda *a, **k: (_ for _ in ()).throw(Crash))
        with pytest.raises(Crash):
            work.step()
    assert len(rows(Keyframe)) == 1
    assert work_off(make_worker("worker-2")) == 0, "the lease still runs"
    context.database.clock.now += 16
    assert work_off(make_worker("worker-2")) == 1
    after = {c.id: (c.latents_blob, c.committed_at) for c in rows(Chunk)}
    assert before.items() <= after.items()
    assert client.get(job["url"]).json()["state"] == "done"
    assert len(rows(Keyframe)) == 2


def test_a_cancelled_job_keeps_what_it_committed_and_discards_the_chunk_in_flight(
    client, story, add_shot, make_worker, work_off, rows
):
    job = add_shot(num_chunks=3)
    extension = client.post(
        f"/v1/shots/{job['shot_id']}/extend", json={"prompt": "it waves", "num_chunks": 1}
    ).json()
    make_worker().step()

    def cancel(_request):
        assert client.post(f"{job['url']}/cancel").json()["state"] == "cancelled"

    make_worker(generator=FakeGenerator(on_chunk=cancel)).step()
    assert [(c.index, c.state) for c in rows(Chunk)] == [(0, "done")]
    shown = client.get(extension["url"]).json()
    assert shown["state"] == "cancelled"
    assert "an earlier part of the shot was cancelled" in shown["error"]
    assert work_off() == 0
    again = client.post(f"/v1/shots/{job['shot_id']}/extend", json={"prompt": "it sits"})
    assert again.status_code == 202
    assert work_off() == 1
    assert client.post(f"{job['url']}/cancel").json()["state"] == "cancelled"
    assert client.post(f"{again.json()['url']}/cancel").status_code == 409


def test_drawing_stops_when_its_job_is_cancelled(client, add_shot, make_worker, monkeypatch):
    monkeypatch.setattr("serve.work.worker.CLAIM_CHECK_S", 0.01)
    monkeypatch.setenv("FAKE_STEP_S", "0.2")
    job = add_shot(num_chunks=1)
    finished = []

    def cancel(_request):
        client.post(f"{job['url']}/cancel")

    generator = FakeGenerator(fail=cancel, on_chunk=finished.append)
    assert make_worker(generator=generator).step()
    assert not finished


def test_the_next_shot_waits_for_the_one_before_and_reads_its_keyframes(
    client, add_shot, make_worker, claim
):
    add_shot("a bear walks", 1)
    second = add_shot("a bear sits", 1)
    assert claim("worker-1").shot_id != second["shot_id"]
    assert claim("worker-2") is None


def test_an_error_is_tried_again_and_then_ends_the_job_with_its_reason(
    client, add_shot, context, make_worker
):
    job = add_shot(num_chunks=2)

    def fail(_request):
        raise ValueError("no such tensor")

    work = make_worker(generator=FakeGenerator(fail=fail))
    for attempt in range(3):
        assert work.step(), attempt
        context.database.clock.now += 100
    assert not work.step()
    shown = client.get(job["url"]).json()
    assert shown["state"] == "failed"
    assert shown["error"] == "ValueError: no such tensor"


def test_a_request_that_cannot_be_drawn_fails_at_once(client, add_shot, make_worker):
    from fw_model.errors import InputError

    job = add_shot(num_chunks=2)

    def refuse(_request):
        raise InputError("Frames of 64x48 px do not divide by 32.")

    work = make_worker(generator=FakeGenerator(fail=refuse))
    assert work.step()
    assert not work.step()
    assert client.get(job["url"]).json()["error"] == "Frames of 64x48 px do not divide by 32."


def test_a_full_disk_makes_the_job_wait_and_go_on_by_itself(
    client, add_shot, context, make_worker, work_off, monkeypatch
):
    import errno

    job = add_shot(num_chunks=2)
    work = make_worker()
    work.step()

    def full(_path, _content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(context.blobs, "_put_local", full)
        for _ in range(5):
            work.step()
            context.database.clock.now += 100
    shown = client.get(job["url"]).json()
    assert shown["state"] == "running"
    assert shown["num_done"] == 1
    assert "the disk is full" in shown["error"]
    assert work_off(work) == 1
    shown = client.get(job["url"]).json()
    assert (shown["state"], shown["error"]) == ("done", None)


def test_a_chunk_that_kills_its_workers_ends_the_job(client, add_shot, claim, context):
    job = add_shot(num_chunks=1)
    lease = LeaseConfig(duration_s=15, heartbeat_s=5, max_lost_leases=3)
    for _ in range(4):
        assert claim("worker-1", lease) is not None
        context.database.clock.now += 16
    assert claim("worker-1", lease) is None
    shown = client.get(job["url"]).json()
    assert shown["state"] == "failed"
    assert "4 workers died" in shown["error"]


def test_a_ready_chunk_is_left_for_a_moment_to_the_worker_that_is_warm(
    add_shot, context, make_worker, claim, rows
):
    add_shot(num_chunks=2)
    make_worker("worker-1").step()
    patient = LeaseConfig(duration_s=15, heartbeat_s=5, affinity_s=2)
    assert claim("worker-2", patient) is None
    context.database.clock.now += 2.5
    assert claim("worker-2", patient).index == 1


def test_shots_drawn_by_two_workers_equal_those_drawn_by_one(client, make_worker, work_off):
    def film(workers):
        story = client.post("/v1/stories", json={"title": "same", "seed": 3}).json()
        url = f"/v1/stories/{story['story_id']}/shots"
        for prompt in ("a bear walks", "a bear sits", "a cat jumps"):
            client.post(url, json={"prompt": prompt, "num_chunks": 2})
        while sum([worker.step() for worker in workers]):
            pass
        return client.get(story["video_url"]).content

    assert film([make_worker("a")]) == film([make_worker("b"), make_worker("c")])


def test_job_rows_count_what_is_done(rows, add_shot, work_off):
    add_shot(num_chunks=3)
    work_off()
    [job] = rows(Job)
    assert (job.state, job.num_done, job.num_chunks) == ("done", 3, 3)
