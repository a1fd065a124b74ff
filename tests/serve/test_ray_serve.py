"""The application on Ray Serve over HTTP: with the fake generator, killed with -9, restarted."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
START_S = 240


class Server:
    """`run` in a process group of its own."""

    def __init__(self, folder, *, generator="fake_generator:load", step_s=0.2):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._generator = generator
        self._step_s = step_s
        self._process = None

    def start(self):
        """Start it, on the port and the state it had before."""
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(PROJECT), str(HERE)]),
            "FAKE_STEP_S": str(self._step_s),
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, str(HERE / "server_process.py"), str(self._folder)]
        log = (self._folder / "server.log").open("ab")
        self._process = subprocess.Popen(
            [*command, str(self.port), self._generator],
            env=env,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, self.log()
            try:
                if httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.5)
        raise AssertionError(f"not ready after {START_S} s: {self.log()}")

    def kill(self):
        """As the kernel would: no handler runs. Ray then takes down what the server had started."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{self.url}/healthz", timeout=10)
            except httpx.ConnectError:
                return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"the killed server still answers on port {self.port}")

    def stop(self):
        """As Ctrl-C does; returns the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(timeout=90)

    def log(self):
        """The end of what it wrote."""
        return (self._folder / "server.log").read_text(errors="replace")[-3000:]

    def close(self):
        """Leave nothing behind."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self._process.kill()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(job_url, http, *, state="done", num_done=0, timeout_s=180):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        job = http.get(job_url).json()
        assert job["state"] not in ("failed", "cancelled"), job
        if job["state"] == state and job["num_done"] >= num_done:
            return job
        time.sleep(0.1)
    raise AssertionError(f"{job_url} is {job}")


def committed(http, story_id):
    """What the event log says was committed, with its time."""
    text = http.get(f"/v1/stories/{story_id}/events?follow=false").text
    blocks = [block for block in text.split("\n\n") if "event: chunk.done" in block]
    return [block.split("data: ")[1] for block in blocks]


@pytest.mark.slow
def test_a_generator_that_does_not_start_is_told_with_its_cause(tmp_path):
    server = Server(tmp_path, generator="fake_generator:load_broken")
    try:
        with pytest.raises(AssertionError, match="did not start"):
            server.start()
        last_line = server.log().strip().splitlines()[-1]
        assert "CapacityError: The server did not start" in last_line
        assert "the weights are missing" in last_line
    finally:
        server.close()


@pytest.mark.slow
def test_a_server_killed_with_9_finishes_its_story_after_restart(tmp_path):
    server = Server(tmp_path)
    try:
        server.start()
        with httpx.Client(base_url=server.url, timeout=60) as http:
            story = http.post("/v1/stories", json={"title": "killed", "seed": 5}).json()
            url = f"/v1/stories/{story['story_id']}/shots"
            first = http.post(url, json={"prompt": "a bear walks", "num_chunks": 3}).json()
            last = http.post(url, json={"prompt": "a bear sits", "num_chunks": 3}).json()
            wait_for(first["url"], http, state="running", num_done=2)
            before = committed(http, story["story_id"])
        server.kill()
        server.start()
        with httpx.Client(base_url=server.url, timeout=60) as http:
            wait_for(last["url"], http)
            after = committed(http, story["story_id"])
            assert after[: len(before)] == before
            assert len(after) == 6
            assert http.get(story["video_url"]).status_code == 200
        assert server.stop() == 0, server.log()
    finally:
        server.close()
