"""A real S3-speaking server on loopback that can be told to answer 503 at random, by a seed."""

from __future__ import annotations

import logging
import random
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


class MoodyStore:
    """moto's S3 behind a door that is shut at random.

    `share` of all requests is refused; `refused` is asked with (method, path) for more.
    """

    def __init__(self, seed: int) -> None:
        self._inner = DomainDispatcherApplication(create_backend_app)
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.share = 0.0
        self.refused: Callable[[str, str], bool] = lambda method, path: False
        self.num_requests = self.num_refused = 0
        self.url = ""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            self.num_requests += 1
            shut = self._random.random() < self.share
            shut = shut or self.refused(environ["REQUEST_METHOD"], environ["PATH_INFO"])
            self.num_refused += shut
        if not shut:
            return self._inner(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("503 Slow Down", [("Content-Type", "application/xml")])
        return [SLOW_DOWN]

    def client(self) -> Any:
        """Return a client of the usual library, for a test to look and to put with."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def environment(self) -> dict[str, str]:
        """Return what a process needs in its environment to find this store."""
        return KEYS | {"AWS_ENDPOINT_URL": self.url}


@contextmanager
def object_store(*buckets: str, seed: int = 0) -> Iterator[MoodyStore]:
    """Serve empty `buckets` while the block runs."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    store = MoodyStore(seed)
    server = make_server("127.0.0.1", 0, store, threaded=True)
    store.url = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        urllib.request.urlopen(urllib.request.Request(f"{store.url}/moto-api/reset", method="POST"))
        for bucket in buckets:
            store.client().create_bucket(Bucket=bucket)
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
