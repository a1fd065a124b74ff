"""An S3-speaking server on loopback that counts requests and answers each a little late.

    with serve(latency_s=0.02) as store: ...      # store.url, store.counts(), store.set_latency(s)

It is moto's server in a process of its own. Moto needs some milliseconds of a core per request, so
times measured with it are upper bounds.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

BUCKET = "films"
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
CONTROL = "/_benchmark"


@dataclass(frozen=True)
class ObjectStore:
    """The running server, seen from another process."""

    url: str

    def environment(self) -> dict[str, str]:
        """Return what a process needs in its environment to find this store."""
        return KEYS | {"AWS_ENDPOINT_URL": self.url}

    def counts(self) -> Counter[str]:
        """Return how many requests of each kind there were."""
        with urllib.request.urlopen(f"{self.url}{CONTROL}") as answer:
            return Counter(json.loads(answer.read()))

    def set_latency(self, seconds: float) -> None:
        """Answer each later request so much later."""
        urllib.request.urlopen(f"{self.url}{CONTROL}?latency_s={seconds}").read()


@contextmanager
def serve() -> Iterator[ObjectStore]:
    """Serve an empty bucket while the block runs."""
    words = [sys.executable, "-m", "benchmarks.object_store"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield ObjectStore(process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait()


class CountingStore:
    """moto's S3 as a WSGI application, with counts and a delay."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        self._inner = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._latency_s = 0.0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        query = environ.get("QUERY_STRING", "")
        if environ["PATH_INFO"] == CONTROL:
            found = parse_qs(query).get("latency_s")
            self._latency_s = float(found[0]) if found else self._latency_s
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._counts).encode()]
        with self._lock:
            self._counts[_kind(environ["REQUEST_METHOD"], query, environ)] += 1
        time.sleep(self._latency_s)
        return list(self._inner(environ, start_response))


def _kind(method: str, query: str, environ: dict[str, Any]) -> str:
    if method == "GET" and "list-type" in query:
        return "LIST"
    if method == "PUT" and "HTTP_X_AMZ_COPY_SOURCE" in environ:
        return "COPY"
    return "DELETE many" if method == "POST" and "delete" in query else method


def main() -> None:
    """Serve until terminated; print the address first."""
    import boto3
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, CountingStore(), threaded=True)
    url = f"http://127.0.0.1:{server.port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    secrets = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **secrets)
    client.create_bucket(Bucket=BUCKET)
    print(url, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
