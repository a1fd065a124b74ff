"""The Ray Serve application: `build_app` for a cluster, `run` for `filmweaver serve`.

Deploys and stops; what the deployments do is in `serve.replica`.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from ray import serve as ray_serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException

from fw_model.errors import CapacityError
from fw_model.loading.folders import load_record
from serve.autoscaling import QueuePolicy
from serve.config import ScalingConfig, ServingConfig
from serve.http.dependencies import FrameSize
from serve.replica import GeneratorReplica, Ingress
from serve.stores.address import StoreAddress
from serve.work.generators import bind_model, find_generator

if TYPE_CHECKING:
    from fw_model.generation.request import GenerationConfig
    from fw_model.loading.config import ModelConfig

log = logging.getLogger(__name__)
APP_NAME = "filmweaver"
PORT_WAIT_S = 10.0


def build_app(
    serving: ServingConfig, model: ModelConfig, generation: GenerationConfig
) -> ray_serve.Application:
    """Bind the ingress and the generators, which get their work from the database."""
    find_generator(serving.generator)
    address = StoreAddress.of(serving)
    record = load_record(model)
    scaling = serving.scaling
    generators = _scaled(
        ray_serve.deployment(
            name="Generator",
            ray_actor_options={
                "num_cpus": scaling.generator_cpus,
                "num_gpus": scaling.generator_gpus,
            },
            graceful_shutdown_timeout_s=scaling.graceful_shutdown_s,
        )(GeneratorReplica),
        scaling,
        address,
    ).bind(serving, address, model, generation)
    return ray_serve.deployment(
        name="Ingress",
        num_replicas=scaling.ingress_replicas,
        max_ongoing_requests=serving.limits.max_ongoing_requests,
        ray_actor_options={"num_cpus": scaling.ingress_cpus},
    )(Ingress).bind(serving, address, FrameSize(record.width, record.height), generators)


def run(
    serving: ServingConfig,
    model: ModelConfig,
    generation: GenerationConfig,
    *,
    port: int | None = None,
) -> None:
    """Serve on the connected Ray cluster until Ctrl-C or SIGTERM.

    Opens the stores here first, where their errors are easiest to see. Joins a Ray Serve that is
    already running, and in the end removes only this application from it. Raises CapacityError if
    the port is taken or the replicas do not start.
    """
    chosen_port = port or serving.port
    app = build_app(serving, model, generation)
    _check_stores(serving, model)
    is_ours = _start_serve(serving.host, chosen_port)
    stopped = threading.Event()
    previous = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        _deploy(app)
        log.info("serving on http://%s:%d/v1 (stop with Ctrl-C)", serving.host, chosen_port)
        stopped.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        _stop_serve(is_ours)


def _check_stores(serving: ServingConfig, model: ModelConfig) -> None:
    database, blobs = StoreAddress.of(serving).open()
    try:
        blobs.check_writable()
        bind_model(database, serving, model)
    finally:
        database.close()


def _start_serve(host: str, port: int) -> bool:
    """Start Ray Serve, or join the one that is running; whether it was started here."""
    running = _get_global_client(raise_if_no_controller_running=False)
    if running is None:
        check_port(port, host=host)
        ray_serve.start(http_options={"host": host, "port": port})
        return True
    found = running.http_config
    if (found.host, found.port) != (host, port):
        raise CapacityError(
            f"Ray Serve is already running at {found.host}:{found.port}, not at {host}:{port};"
            f" use it with --port {found.port} --set serving.host={found.host}."
        )
    return False


def _deploy(app: ray_serve.Application) -> None:
    try:
        ray_serve.run(app, name=APP_NAME, route_prefix="/")
    except (RuntimeError, RayServeException) as error:
        raise CapacityError(
            f"The server did not start: {_last_cause() or error}; see the logs of its replicas in"
            " /tmp/ray/session_latest/logs/serve."
        ) from error


def _last_cause() -> str | None:
    """The last line of the traceback of a replica that failed to start."""
    application = ray_serve.status().applications.get(APP_NAME)
    for deployment in application.deployments.values() if application else ():
        if deployment.status == "DEPLOY_FAILED":
            return deployment.message.strip().splitlines()[-1].rstrip(".")
    return None


def _stop_serve(is_ours: bool) -> None:
    """Stop Ray Serve if it was started here, else remove only this application."""
    if is_ours:
        ray_serve.shutdown()
        return
    try:
        ray_serve.delete(APP_NAME)
    except TimeoutError:
        log.warning("generators are finishing their chunks; Ray Serve will then remove them")


def check_port(port: int, *, host: str = "127.0.0.1") -> None:
    """Raise CapacityError if the port stays taken.

    Waits a while, because a server that was just killed needs a moment to release its port.
    """
    deadline = time.monotonic() + PORT_WAIT_S
    while not _is_free(port, host):
        if time.monotonic() >= deadline:
            raise CapacityError(
                f"Port {port} on {host} is taken; stop what uses it or choose another --port."
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


def _scaled(
    deployment: ray_serve.Deployment, scaling: ScalingConfig, address: StoreAddress
) -> ray_serve.Deployment:
    if scaling.min_replicas == scaling.max_replicas:
        return deployment.options(num_replicas=scaling.min_replicas)
    policy = AutoscalingPolicy(
        policy_function=QueuePolicy,
        policy_kwargs={"address": asdict(address), "scaling": scaling.model_dump()},
    )
    return deployment.options(
        autoscaling_config=AutoscalingConfig(
            min_replicas=scaling.min_replicas,
            initial_replicas=scaling.min_replicas,
            max_replicas=scaling.max_replicas,
            policy=policy,
        )
    )
