"""The two deployments on Ray Serve: generators with their workers, and the HTTP ingress.

Contains no logic: opens the stores, loads the model and keeps the thread of a worker running.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from typing import TYPE_CHECKING

from fastapi import FastAPI
from ray import serve as ray_serve

from serve.config import ServingConfig
from serve.http.api import create_api
from serve.http.dependencies import FrameSize, open_context
from serve.stores.address import StoreAddress
from serve.work.generators import load_generator
from serve.work.worker import Worker

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

    from fw_model.generation.request import GenerationConfig
    from fw_model.loading.config import ModelConfig

log = logging.getLogger(__name__)


class GeneratorReplica:
    """One loaded model and the thread that generates chunks with it."""

    def __init__(
        self,
        config: ServingConfig,
        address: StoreAddress,
        model: ModelConfig,
        generation: GenerationConfig,
    ) -> None:
        database, blobs = address.open()
        self._grace_s = config.scaling.graceful_shutdown_s
        self._worker = Worker(
            f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}",
            database=database,
            blobs=blobs,
            loaded=load_generator(database, config, model, generation),
            config=config,
        )
        self._thread = threading.Thread(target=self._worker.run, name="worker", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        """Called by Ray Serve, which replaces a replica whose worker has died."""
        if not self._thread.is_alive():
            raise RuntimeError("the worker thread has ended; its log has the reason")

    def __del__(self) -> None:
        """Called by Ray Serve before it removes the replica; finishes the current chunk."""
        if hasattr(self, "_thread"):
            self._worker.stop()
            self._thread.join(timeout=self._grace_s)


@ray_serve.ingress()
class Ingress:
    """The HTTP API; any number of replicas can share the same stores."""

    def __init__(
        self,
        config: ServingConfig,
        address: StoreAddress,
        default_size: FrameSize,
        _generators: DeploymentHandle[GeneratorReplica],  # never called: binding it deploys it
    ) -> None:
        self._context = open_context(config, address, default_size)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Ray Serve inside the replica."""
        return create_api(self._context)
