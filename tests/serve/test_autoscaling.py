"""How many generators are wanted, and how the wish follows the queue."""

import time
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from serve.autoscaling import DownscaleDelay, Queue, QueuePolicy, desired_replicas, read_queue
from serve.config import ScalingConfig
from serve.stores.address import StoreAddress


@pytest.mark.parametrize(
    ("seconds", "num_stories", "wanted"),
    [
        (0, 0, 0),
        (1, 1, 1),
        (600, 20, 10),
        (600, 3, 3),  # more would idle: chunks of a story are drawn one after another
        (6000, 200, 16),
    ],
)
def test_generators_follow_queued_seconds_bounded_by_stories(seconds, num_stories, wanted):
    scaling = ScalingConfig(min_replicas=0, max_replicas=16, drain_target_s=60)
    assert desired_replicas(Queue(seconds, num_stories), scaling) == wanted


def test_the_floor_holds_when_nothing_waits():
    scaling = ScalingConfig(min_replicas=2, max_replicas=4)
    assert desired_replicas(Queue(0, 0), scaling) == 2


def test_a_falling_wish_is_followed_late_and_a_rising_one_at_once():
    delay = DownscaleDelay(60)
    assert [delay.apply(w, now=t) for t, w in [(0, 1), (1, 5), (30, 0), (60, 0), (62, 0)]] == [
        1, 5, 5, 5, 0,
    ]  # fmt: skip


def test_the_queue_is_weighed_by_what_chunks_cost_lately(context, add_shot, work_off, make_worker):
    add_shot(num_chunks=3)
    with context.database.reading() as session:
        assert read_queue(session, default_chunk_s=5) == Queue(15.0, 1)
    make_worker().step()
    with context.database.reading() as session:
        after = read_queue(session, default_chunk_s=5)
    assert 0 < after.chunk_seconds < 10
    work_off()
    with context.database.reading() as session:
        assert read_queue(session, default_chunk_s=5) == Queue(0, 0)


@pytest.fixture
def started():
    """Policies that are stopped after the test."""
    policies = []

    def keep(policy):
        policies.append(policy)
        return policy

    yield keep
    for policy in policies:
        policy.stop()


def test_the_policy_answers_at_once_and_holds_until_it_has_read(config, add_shot, context, started):
    add_shot(num_chunks=100)
    scaling = ScalingConfig(min_replicas=0, max_replicas=4, drain_target_s=1)
    policy = started(QueuePolicy(asdict(StoreAddress.of(config)), scaling.model_dump()))
    policy_context = SimpleNamespace(target_num_replicas=3)
    deadline = time.monotonic() + 30
    while policy(policy_context)[0] != 1:
        assert policy(policy_context)[0] == 3, "nothing was read yet: hold"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_policy_holds_while_the_database_is_away(tmp_path, started):
    address = {
        "data_dir": str(tmp_path), "blobs_uri": str(tmp_path), "needs_database_url": True,
    }  # fmt: skip
    policy = started(QueuePolicy(address, ScalingConfig().model_dump()))
    time.sleep(0.1)
    assert policy(SimpleNamespace(target_num_replicas=2)) == (2, {})
