"""What tests of several folders share."""

import pytest

from pipelines.storage import filesystems as locations
from pipelines.storage import retry
from tests.pipelines.curation.bucket import object_store


@pytest.fixture
def bucket(monkeypatch):
    """An S3 server with an empty bucket `films`, and its address in the environment."""
    with object_store("films", seed=7) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(retry, "FIRST_WAIT_S", 0.001)
        locations._bucket.cache_clear()
        yield server
        locations._bucket.cache_clear()
