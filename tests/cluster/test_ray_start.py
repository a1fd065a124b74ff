"""A start of Ray that times out is cleaned up and tried again; any other failure is not."""

import socket
import subprocess
import sys

import psutil
import pytest

from cluster import ray_start
from fw_model.errors import CapacityError

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


def test_an_address_where_nothing_listens_is_refused_at_once() -> None:
    ray = pytest.importorskip("ray")
    if ray.is_initialized():
        pytest.skip("a Ray is joined already")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = ray_start.RayConfig(address=address)
    refused = pytest.raises(CapacityError, match=r"start one with `ray start --head`")
    with refused, ray_start.ray_session(config):
        pytest.fail("joined")


def test_a_cluster_that_lets_nobody_in_makes_the_message_name_the_token() -> None:
    error = ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")
    assert "RAY_AUTH_TOKEN" in ray_start._advice("10.0.0.1:6379", error)


@pytest.mark.parametrize(
    ("process_gpus", "device", "has_gpus", "reserved"),
    [
        (None, "cpu", True, 0.0),
        (None, "cuda", False, 1.0),
        (None, "auto", True, 1.0),
        (None, "auto", False, 0.0),
        (0.5, "auto", False, 0.5),
    ],
)
def test_a_command_in_one_process_reserves_the_gpus_that_it_needs(
    process_gpus: float | None, device: str, has_gpus: bool, reserved: float
) -> None:
    config = ray_start.RayConfig(process_gpus=process_gpus)
    assert config.gpus_for(device, cluster_has_gpus=has_gpus) == reserved
