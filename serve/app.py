"""The Ray Serve application: `build_app` for a cluster, `run` for `filmweaver serve`."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ray import serve as ray_serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from fw_model.errors import CapacityError
from fw_model.model import load_record
from serve.autoscaling import QueuePolicy
from serve.config import ScalingConfig, ServingConfig
from serve.context import FilmFormat, StoreAddress
from serve.replica import GeneratorReplica, Ingress

if TYPE_CHECKING:
    from types import FrameType

    from fw_model.generation import GenerationConfig
    from fw_model.model import ModelConfig

log = logging.getLogger(__name__)
APP_NAME = "filmweaver"
PORT_WAIT_S = 10.0


def build_app(
    serving: ServingConfig, model: ModelConfig, generation: GenerationConfig
) -> ray_serve.Application:
    """Bind the ingress and, beside it, the generators, which pull their work from the database."""
    address = StoreAddress.of(serving)
    record = load_record(model)
    scaling = serving.scaling
    generators = ray_serve.deployment(
        GeneratorReplica,
        name="Generator",
        ray_actor_options={
            "num_cpus": scaling.generator_cpus,
            "num_gpus": scaling.generator_gpus,
        },
        graceful_shutdown_timeout_s=scaling.graceful_shutdown_s,
        **_replicas(scaling, address),
    ).bind(serving, address, model, generation)
    return ray_serve.deployment(
        Ingress,
        name="Ingress",
        num_replicas=scaling.ingress_replicas,
        max_ongoing_requests=serving.limits.max_ongoing_requests,
        ray_actor_options={"num_cpus": scaling.ingress_cpus},
    ).bind(serving, address, FilmFormat(record.width, record.height), generators)


def run(
    serving: ServingConfig,
    model: ModelConfig,
    generation: GenerationConfig,
    *,
    port: int | None = None,
) -> None:
    """Serve on the joined Ray until Ctrl-C or SIGTERM; CapacityError if the port is taken."""
    chosen_port = port or serving.port
    check_port(chosen_port, host=serving.host)
    app = build_app(serving, model, generation)
    ray_serve.start(http_options={"host": serving.host, "port": chosen_port})
    stopped = threading.Event()
    previous = {name: _on_signal(name, stopped) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray_serve.run(app, name=APP_NAME, route_prefix="/")
        log.info("serving on http://%s:%d/v1 (stop with Ctrl-C)", serving.host, chosen_port)
        stopped.wait()
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
        ray_serve.shutdown()


def check_port(port: int, *, host: str = "127.0.0.1") -> None:
    """Raise CapacityError if something listens on the port and keeps doing so for a while.

    A server that was killed a moment ago may need a moment to let go of it.
    """
    deadline = time.monotonic() + PORT_WAIT_S
    while not _is_free(port, host):
        if time.monotonic() >= deadline:
            raise CapacityError(
                f"Port {port} on {host} is taken; stop what listens there or choose another --port."
            )
        time.sleep(0.5)


def _is_free(port: int, host: str) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _replicas(scaling: ScalingConfig, address: StoreAddress) -> dict[str, Any]:
    if scaling.min_replicas == scaling.max_replicas:
        return {"num_replicas": scaling.min_replicas}
    policy = AutoscalingPolicy(
        policy_function=QueuePolicy,
        policy_kwargs={"address": asdict(address), "scaling": scaling.model_dump()},
    )
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=scaling.min_replicas,
            initial_replicas=max(scaling.min_replicas, 0),
            max_replicas=scaling.max_replicas,
            policy=policy,
        )
    }


def _on_signal(number: int, stopped: threading.Event) -> Any:
    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    return signal.signal(number, stop)
