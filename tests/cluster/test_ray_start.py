"""A start of Ray that times out is cleaned up and tried again; any other failure is not."""

import subprocess
import sys

import psutil
import pytest

from cluster import ray_start

SLOW = "The current node timed out during startup. This could happen because"


def test_a_slow_start_is_tried_again_and_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")
    left_behind: list[subprocess.Popen[bytes]] = []

    def init(**options: object) -> None:
        if len(left_behind) < 2:
            left_behind.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1))
            raise Exception(SLOW)  # Ray's own kind

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    ray_start.start_ray("local")
    assert [psutil.pid_exists(process.pid) for process in left_behind] == [False, False]


def test_a_start_that_never_succeeds_and_an_address_that_is_not_there_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray")
    tries: list[object] = []

    def init(**options: object) -> None:
        tries.append(options)
        raise Exception(SLOW)

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with pytest.raises(Exception, match="timed out"):
        ray_start.start_ray("local")
    assert len(tries) == ray_start.START_ATTEMPTS
    with pytest.raises(Exception, match="timed out"):
        ray_start.start_ray("10.0.0.1:6379")
    assert len(tries) == ray_start.START_ATTEMPTS + 1
