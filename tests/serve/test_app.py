"""`run` up to the point where Ray Serve takes over, and after it: with a fake Ray Serve."""

import os
import signal
import socket
from types import SimpleNamespace

import pytest

from fw_model.errors import CapacityError, ConfigError, FilmWeaverError
from fw_model.generation.request import GenerationConfig
from fw_model.loading.config import ModelConfig
from serve import app
from serve.config import ServingConfig


class FakeServe:
    """What of Ray Serve `run` calls; an application, once deployed, is interrupted at once."""

    def __init__(self):
        self.calls = []
        self.failure = None
        self.running_at = None

    def start(self, http_options):
        self.calls.append(("start", http_options["port"]))

    def run(self, _app, *, name, route_prefix):
        self.calls.append(("run", name))
        if self.failure is not None:
            raise RuntimeError("Deploying application filmweaver failed: Failed to update.")
        os.kill(os.getpid(), signal.SIGINT)

    def status(self):
        deployment = SimpleNamespace(status="DEPLOY_FAILED", message=self.failure)
        found = SimpleNamespace(deployments={"Generator": deployment})
        return SimpleNamespace(applications={app.APP_NAME: found})

    def delete(self, name):
        self.calls.append(("delete", name))

    def shutdown(self):
        self.calls.append(("shutdown",))

    def client(self, *, raise_if_no_controller_running):
        if self.running_at is None:
            return None
        host, port = self.running_at
        return SimpleNamespace(http_config=SimpleNamespace(host=host, port=port))


@pytest.fixture
def fake_serve(monkeypatch):
    """Stands in for Ray Serve, and for the DATABASE_URL of the machine."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    serve = FakeServe()
    for name in ("start", "run", "status", "delete", "shutdown"):
        monkeypatch.setattr(app.ray_serve, name, getattr(serve, name))
    monkeypatch.setattr(app, "_get_global_client", serve.client)
    return serve


@pytest.fixture
def serve_once(fake_serve, tmp_path):
    """Serve until the fake interrupts; settings may be changed."""

    def run(**settings):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        serving = ServingConfig(**{"data_dir": str(tmp_path / "serve"), "port": port} | settings)
        app.run(serving, ModelConfig(), GenerationConfig())

    return run


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://host/name", "DATABASE_URL"),
        ("postgresql://host:port/name", "DATABASE_URL"),
        ("postgresql://127.0.0.1:1/name", "refused"),
        ("sqlite:////nowhere/at/all.db", "unable to open"),
    ],
)
def test_a_wrong_database_is_told_before_anything_is_deployed(
    fake_serve, serve_once, monkeypatch, url, words
):
    if url.startswith("postgresql"):
        pytest.importorskip("psycopg")
    monkeypatch.setenv("DATABASE_URL", url)
    with pytest.raises(FilmWeaverError, match=words):
        serve_once()
    assert fake_serve.calls == []


@pytest.mark.parametrize(
    ("setting", "value", "error"),
    [
        ("generator", "nope", ConfigError),
        ("generator", "no_such_module:load", ConfigError),
        ("data_dir", "{taken}/serve", FilmWeaverError),
        ("blobs_uri", "{taken}/blobs", FilmWeaverError),
    ],
)
def test_a_wrong_setting_is_told_before_anything_is_deployed(
    fake_serve, serve_once, tmp_path, setting, value, error
):
    taken = tmp_path / "taken"
    taken.touch()
    with pytest.raises(error, match=value.format(taken=taken)):
        serve_once(**{setting: value.format(taken=taken)})
    assert fake_serve.calls == []


def test_replicas_that_fail_are_told_by_their_last_cause(fake_serve, serve_once):
    fake_serve.failure = "failed 3 times. Error:\n  File x\nSomeError: no such weights.\n"
    with pytest.raises(CapacityError, match="did not start: SomeError: no such weights;"):
        serve_once()
    assert fake_serve.calls[-1] == ("shutdown",)


def test_a_ray_serve_of_our_own_is_shut_down(fake_serve, serve_once):
    serve_once()
    assert [call[0] for call in fake_serve.calls] == ["start", "run", "shutdown"]


def test_of_a_ray_serve_that_ran_before_only_our_application_is_removed(fake_serve, serve_once):
    fake_serve.running_at = ("0.0.0.0", 8000)
    serve_once(host="0.0.0.0", port=8000)
    assert fake_serve.calls == [("run", app.APP_NAME), ("delete", app.APP_NAME)]


@pytest.mark.parametrize("place", [("0.0.0.0", 8000), ("127.0.0.1", 8001)])
def test_a_ray_serve_that_listens_elsewhere_is_not_joined(fake_serve, serve_once, place):
    fake_serve.running_at = place
    with pytest.raises(CapacityError, match=f"--port {place[1]} --set serving.host={place[0]}"):
        serve_once(host="127.0.0.1", port=8000)
    assert fake_serve.calls == []
