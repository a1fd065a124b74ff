"""Stores in a temporary folder, the API over them, and workers with the fake generator."""

import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from fake_generator import FakeGenerator

from serve.config import LeaseConfig, ServingConfig
from serve.http.api import create_api
from serve.http.dependencies import FrameSize, open_context
from serve.http.openapi import document
from serve.stores.address import StoreAddress
from serve.stores.database import Database
from serve.work.generators import LoadedGenerator
from serve.work.worker import Worker

DESCRIPTION = json.loads(document())


class Clock:
    """Time that a test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        self.now += 0.001  # no two things happen at once
        return self.now


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    """An empty SQLite database of the newest schema, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "filmweaver.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture
def config(tmp_path, migrated):
    """A server's settings, with its state in the test's folder."""
    (tmp_path / "serve").mkdir()
    shutil.copy(migrated, tmp_path / "serve" / "filmweaver.db")
    lease = LeaseConfig(duration_s=15, heartbeat_s=5, poll_s=0.01, affinity_s=0)
    return ServingConfig(data_dir=str(tmp_path / "serve"), lease=lease)


@pytest.fixture
def context(config, monkeypatch):
    """Opened stores whose clock the test moves."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(Database, "migrate", lambda _self: None)  # copied as migrated
    opened = open_context(config, StoreAddress.of(config), FrameSize(64, 48))
    opened.database.clock = Clock()
    yield opened
    opened.database.close()


def check_declared(response):
    """Fail if the OpenAPI description does not declare the status and the media type."""
    path, method = response.request.url.path, response.request.method.lower()
    for template, operations in DESCRIPTION["paths"].items():
        if re.fullmatch(re.sub(r"{\w+}", "[^/]+", template), path):
            declared = operations[method]["responses"]
            assert str(response.status_code) in declared, (method, path, response.status_code)
            media_types = declared[str(response.status_code)].get("content")
            if media_types:
                assert response.headers["content-type"].split(";")[0] in media_types


@pytest.fixture
def client(context):
    """The API without Ray; every response must be one that its description declares."""
    with TestClient(create_api(context), raise_server_exceptions=False) as client:
        client.event_hooks["response"].append(check_declared)
        yield client


@pytest.fixture
def make_worker(context, config):
    """Workers over the test's stores, each with its own fake generator."""

    def make(name="worker-1", generator=None):
        loaded = LoadedGenerator(generator or FakeGenerator(), fps=12.0, embedder_id="fake-16")
        return Worker(
            name, database=context.database, blobs=context.blobs, loaded=loaded, config=config
        )

    return make


@pytest.fixture
def png():
    """A small PNG picture."""
    pixels = np.random.default_rng(5).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def story(client):
    """An empty story."""
    answer = client.post("/v1/stories", json={"title": "a bear in the snow", "seed": 7})
    assert answer.status_code == 201
    return answer.json()


@pytest.fixture
def add_shot(client, story):
    """Add a shot to the story and return its job."""

    def add(prompt="a bear walks", num_chunks=2, **more):
        body = {"prompt": prompt, "num_chunks": num_chunks, **more}
        answer = client.post(f"/v1/stories/{story['story_id']}/shots", json=body)
        assert answer.status_code == 202, answer.text
        return answer.json()

    return add


@pytest.fixture
def work_off(make_worker):
    """Let a worker draw until nothing is left; returns how many chunks it drew."""

    def work(worker=None):
        worker = worker or make_worker()
        count = 0
        while worker.step():
            count += 1
        return count

    return work
