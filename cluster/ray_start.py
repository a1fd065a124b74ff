"""Joins or starts the Ray that a command uses, and stops only a Ray that it started."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from pydantic import Field

from cluster.worker_failure import worker_failure
from fw_model.config import StrictModel
from fw_model.errors import CapacityError

log = logging.getLogger(__name__)

START_ATTEMPTS = 4
CONNECT_TIMEOUT_S = 10.0
TOKEN_ADVICE = (
    "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN to that cluster's token, or RAY_AUTH_MODE=disabled"
    " if it has none"
)


class RayConfig(StrictModel):
    """Which Ray to use, and how large a Ray on this machine alone is."""

    address: str = Field(
        "local",
        description="`local` starts Ray on this machine; `auto` or HOST:PORT joins a running one.",
    )
    num_cpus: int | None = Field(
        None,
        ge=1,
        description="Logical CPUs of a local Ray; null takes the machine's cores, at least 4 so "
        "that training workers and the tasks that feed them fit together.",
    )
    num_gpus: int | None = Field(
        None, ge=0, description="GPUs of a local Ray; null takes all that Ray finds."
    )
    object_store_mb: int | None = Field(
        None, ge=80, description="Object store of a local Ray, MiB; null leaves it to Ray."
    )
    dashboard: bool = Field(False, description="Start the dashboard of a local Ray.")
    process_cpus: float = Field(
        1.0,
        gt=0,
        description="CPUs that a command reserves on a cluster if it computes in one process: "
        "generate, and submitted jobs of export, pretrain, write-scenes and toyfilms --encoded.",
    )
    process_gpus: float | None = Field(
        None,
        ge=0,
        description="GPUs that such a command reserves; null: one if model.device is cuda, or if "
        "it is auto and the cluster has GPUs when generate starts.",
    )
    worker_logs: bool = Field(False, description="Show the logs of Ray workers in this terminal.")

    def gpus_for(self, device: str, *, cluster_has_gpus: bool) -> float:
        """Return the GPUs that a command reserves for its one process on `device`."""
        if self.process_gpus is not None:
            return self.process_gpus
        return float(device.startswith("cuda") or (device == "auto" and cluster_has_gpus))


def start_ray(address: str, **options: Any) -> None:
    """Call `ray.init`, and again if a busy machine was too slow.

    Ray gives a new local node 30 seconds to report itself; the limit is fixed in its code.
    """
    import ray

    for attempt in range(START_ATTEMPTS):
        before = set(psutil.Process().children(recursive=True))
        try:
            ray.init(address=address, **options)
            return
        except Exception as error:  # Ray raises even plain Exception here
            last = attempt + 1 == START_ATTEMPTS
            if last or address != "local" or "timed out during startup" not in str(error):
                raise
            log.warning("Ray took too long to start on this busy machine; trying again")
            ray.shutdown()
            _kill(set(psutil.Process().children(recursive=True)) - before)


def _kill(processes: set[psutil.Process]) -> None:
    """Kill what a failed start left behind; Ray would do so only when this process ends."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(list(processes), timeout=10)


@contextmanager
def ray_session(config: RayConfig) -> Iterator[None]:
    """Provide a Ray while the block runs; a Ray that is already joined is used and kept.

    Raises CapacityError when the Ray at `config.address` cannot be reached or started.
    """
    # Read by Ray when it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        with _failures_in_one_sentence():
            yield
        return
    options: dict[str, object] = {"log_to_driver": config.worker_logs, "logging_level": "WARNING"}
    if config.address == "local":
        options |= {
            "num_cpus": config.num_cpus or max(4, os.cpu_count() or 1),
            "num_gpus": config.num_gpus,
            "include_dashboard": config.dashboard,
        }
        if config.object_store_mb is not None:
            options["object_store_memory"] = config.object_store_mb * 1024**2
    try:
        _check_reachable(config.address)
        start_ray(config.address, **options)
    except Exception as error:  # Ray raises even plain Exception here
        first_line = (str(error).strip() or repr(error)).splitlines()[0].rstrip(".")
        advice = _advice(config.address, error)
        raise CapacityError(
            f"Cannot use Ray at {config.address!r} ({first_line}); {advice}."
        ) from error
    log.info("ray %s: %s", config.address, _size(ray.cluster_resources()))
    try:
        with _failures_in_one_sentence():
            yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Raise OSError if nothing listens at HOST:PORT: Ray would try for a quarter of an hour."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()


def _advice(address: str, error: Exception) -> str:
    if address == "local":
        return "this machine may be overloaded; try again"
    if "Failed to connect to Ray cluster" in str(error):  # something listens there
        return TOKEN_ADVICE
    return "start one with `ray start --head`, or omit --address to run on this machine"


@contextmanager
def _failures_in_one_sentence() -> Iterator[None]:
    """Turn what Ray raises for a failed actor or task into WorkerFailed."""
    try:
        yield
    except Exception as error:
        failure = worker_failure(error, _log_dir())
        if failure is None:
            raise
        raise failure from error


def _log_dir() -> Path | None:
    """Return Ray's folder of logs on this machine."""
    import ray

    node = ray._private.worker._global_node
    return None if node is None else Path(node.get_logs_dir_path())


def _size(resources: dict[str, float]) -> str:
    """Describe the CPUs, GPUs and memory of the Ray."""
    memory_gib = resources.get("memory", 0.0) / 1024**3
    return (
        f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs,"
        f" {memory_gib:.1f} GiB memory"
    )
