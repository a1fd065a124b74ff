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
from ray.serve.context import _get_global_client
from ray.serve.exceptions import RayServeException
from ray.serve.schema import DeploymentStatus

from fw_model.errors import CapacityError
from fw_model.loading.folders import load_record
from serve.autoscaling import QueuePolicy
from serve.config import ScalingConfig, ServingConfig
from serve.http.dependencies import FilmFormat
from serve.replica import GeneratorReplica, Ingress
from serve.stores.address import StoreAddress
from serve.work.generators import bind_model, find_generator

if TYPE_CHECKING:
    from types import FrameType

    from fw_model.generation.request import GenerationConfig
    from fw_model.loading.config import ModelConfig

log = logging.getLogger(__name__)
APP_NAME = "filmweaver"
PORT_WAIT_S = 10.0


def build_app(
    serving: ServingConfig, model: ModelConfig, generation: GenerationConfig
) -> ray_serve.Application:
    """Bind the ingress and, beside it, the generators, which pull their work from the database."""
    find_generator(serving.generator)
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
    """Serve on the joined Ray until Ctrl-C or SIGTERM.

    What replicas would fail on is tried here first. A Ray Serve that runs already is joined, and
    at the end only this application is taken off it. Raises CapacityError if the port cannot be
    had or the replicas do not start.
    """
    chosen_port = port or serving.port
    app = build_app(serving, model, generation)
    _check_stores(serving, model)
    is_ours = _start_serve(serving.host, chosen_port)
    stopped = threading.Event()
    previous = {name: _on_signal(name, stopped) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        _deploy(app)
        log.info("serving on http://%s:%d/v1 (stop with Ctrl-C)", serving.host, chosen_port)
        stopped.wait()
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
        _stop_serve(is_ours)


def _check_stores(serving: ServingConfig, model: ModelConfig) -> None:
    database, blobs = StoreAddress.of(serving).open()
    try:
        blobs.check_writable()
        bind_model(database, serving, model)
    finally:
        database.close()


def _start_serve(host: str, port: int) -> bool:
    """Start Ray Serve there, or join the one that runs; whether it was started."""
    running = _get_global_client(raise_if_no_controller_running=False)
    if running is None:
        check_port(port, host=host)
        ray_serve.start(http_options={"host": host, "port": port})
        return True
    found = running.http_config
    if (found.host, found.port) != (host, port):
        raise CapacityError(
            f"Ray Serve already runs here, at {found.host}:{found.port} and not at {host}:{port};"
            f" use it with --port {found.port} --set serving.host={found.host}."
        )
    return False


def _deploy(app: ray_serve.Application) -> None:
    try:
        ray_serve.run(app, name=APP_NAME, route_prefix="/")
    except (RuntimeError, RayServeException) as error:
        raise CapacityError(
            f"The server did not start: {_last_cause() or error}; the logs of its replicas are"
            " under /tmp/ray/session_latest/logs/serve."
        ) from error


def _last_cause() -> str | None:
    """The last line of the traceback with which a replica failed to start."""
    application = ray_serve.status().applications.get(APP_NAME)
    for deployment in application.deployments.values() if application else ():
        if deployment.status == DeploymentStatus.DEPLOY_FAILED:
            return deployment.message.strip().splitlines()[-1].rstrip(".")
    return None


def _stop_serve(is_ours: bool) -> None:
    """Leave Ray Serve as it was found."""
    if is_ours:
        ray_serve.shutdown()
        return
    try:
        ray_serve.delete(APP_NAME)
    except TimeoutError:
        log.warning("generators still finish their chunks; Ray Serve removes them afterwards")


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
