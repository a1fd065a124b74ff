"""Checks that the nodes of a cluster see the local paths that a run reads and writes.

A node that does not would take every video for missing and write its rows to a disk of its own.
The driver asks each node before work starts; an actor asks again, for nodes that join later.
"""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fw_model.errors import StorageError
from fw_model.files.atomic import write_atomic
from pipelines.storage.filesystems import filesystem, is_local

MARKER = ".filmweaver-nodes"
"""A file in a local output while a run writes to it; its content differs from run to run."""

PROBE_S = 120.0  # a busy node takes a minute to start a worker
MAX_NAMES = 16  # of a folder, to compare
MAX_FILES = 64  # of a source, to look for

State = int | tuple[str, ...] | str | None
"""The size of a file, the first names in a folder, the text of a marker; None: not there."""


class SharedPath(NamedTuple):
    """A local path, what it is for, and its state on the driver's node."""

    role: str
    path: str
    state: State


@dataclass(frozen=True)
class SharedPaths:
    """The local paths of a run. `node_id` and `host` name the node of the driver."""

    node_id: str
    host: str
    paths: tuple[SharedPath, ...] = ()

    def check(self) -> None:
        """Raise StorageError if this node does not see a path as the driver does."""
        fault = self.fault()
        if fault is not None:
            raise StorageError(fault)

    def fault(self) -> str | None:
        """Return a sentence about the first path that this node does not see, None if it sees all.

        On the driver's own node there is nothing to compare.
        """
        if not self.paths or _node_id() == self.node_id:
            return None
        for role, path, state in self.paths:
            if _state(path) != state:
                shown = str(Path(path).parent) if Path(path).name == MARKER else path
                return (
                    f"Node {_host()} does not see the {role} {shown} of node {self.host}; put it "
                    "on a disk that all nodes share, or give a URI such as s3://BUCKET/KEY."
                )
        return None


@contextlib.contextmanager
def shared_paths(
    inputs: Iterable[tuple[str, str]], output: str | None = None
) -> Iterator[SharedPaths]:
    """Provide the local paths among `inputs` ((role, path or URI)) and `output` while a run lasts.

    Asks all nodes of the running Ray first: StorageError names a node and a path that it does not
    see. Paths that this node does not see either are left to those who read them.
    """
    node_id, host = _node_id(), _host()
    paths = [SharedPath(role, path, _state(path)) for role, path in map(_local, inputs) if path]
    paths = [path for path in paths if path.state is not None]
    with _marked(output) as marker:
        if marker is not None:
            paths.append(SharedPath("output", str(marker), _state(str(marker))))
        shared = SharedPaths(node_id, host, tuple(paths))
        _ask_nodes(shared)
        yield shared


def sample(role: str, uris: Sequence[str]) -> list[tuple[str, str]]:
    """Return MAX_FILES of `uris`, spread evenly, as inputs of `shared_paths`."""
    step = max(1, len(uris) // MAX_FILES)
    return [(role, uri) for uri in uris[::step][:MAX_FILES]]


def _local(named: tuple[str, str]) -> tuple[str, str]:
    """Return the role and the local path, "" for a URI of another file system."""
    role, uri = named
    if "://" in uri and not uri.startswith("file://"):
        return role, ""  # without asking its server
    found, path = filesystem(uri)
    return role, path if is_local(found) else ""


@contextlib.contextmanager
def _marked(output: str | None) -> Iterator[Path | None]:
    """Keep a marker in a local output while the block runs; None for another output."""
    folder = _local(("output", output))[1] if output else ""
    if not folder:
        yield None
        return
    marker = Path(folder) / MARKER
    try:
        marker.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(marker, uuid.uuid4().hex)
    except OSError as error:
        raise StorageError(f"Cannot write to {folder}: {error.strerror or error}.") from error
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)


def _ask_nodes(shared: SharedPaths) -> None:
    """Raise StorageError if a node that runs work does not see a path; log nodes that are mute."""
    if not shared.paths:
        return
    others = [
        node["NodeID"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != shared.node_id and _runs_work(node["Resources"])
    ]
    ask = ray.remote(num_cpus=0, max_retries=0)(SharedPaths.fault)
    asked = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(
            shared
        )
        for node in others
    ]
    if not asked:
        return
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=PROBE_S)
    for answer in answered:
        with contextlib.suppress(RayError):  # the node has gone: it will run nothing
            fault = ray.get(answer)
            if fault is not None:
                raise StorageError(fault)


def _runs_work(resources: dict[str, float]) -> bool:
    return resources.get("CPU", 0.0) > 0 or resources.get("GPU", 0.0) > 0


def _state(path: str) -> State:
    try:
        if os.path.basename(path) == MARKER:
            return Path(path).read_text(encoding="utf-8")
        if os.path.isdir(path):
            return tuple(sorted(os.listdir(path))[:MAX_NAMES])
        return os.stat(path).st_size
    except OSError:
        return None


def _node_id() -> str:
    return str(ray.get_runtime_context().get_node_id())


def _host() -> str:
    return f"{socket.gethostname()} ({ray.util.get_node_ip_address()})"
