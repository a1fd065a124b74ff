"""Isolated nodes with only an S3 server between them, made by a tool outside the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
TOOL = PROJECT.parent / "shared" / "tools" / "two_nodes.sh"
PACKAGES = ("cluster", "fw_model", "pipelines", "serve")
ADDRESSES = {
    "store": "10.77.0.254", "head": "10.77.0.1", "worker": "10.77.0.2", "another": "10.77.0.3"
}  # fmt: skip
START_S = 120.0


@dataclass
class Nodes:
    """The nodes of ADDRESSES; a node's /data is the folder that `data` returns."""

    folder: Path
    tag: str = field(default_factory=lambda: f"{os.getpid() % 10000}")

    @property
    def environment(self) -> dict[str, str]:
        """What the tool reads: it shows the nodes the virtual environment of this process."""
        venv = Path(sys.prefix)
        return {**os.environ, "NODES": str(self.folder), "PROJECT": str(venv.parent)}

    def tool(self, *words: str, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run the tool. Output goes through files: a daemon would keep a pipe open."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(
                ["bash", str(TOOL), *words],
                env=self.environment, stdout=out, stderr=err, check=False, timeout=timeout_s,
            )  # fmt: skip
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(words, done.returncode, out.read(), err.read())

    def name(self, node: str) -> str:
        return f"{node[0]}{self.tag}"  # names of network devices are short

    def data(self, node: str) -> Path:
        return self.folder / self.name(node) / "data"

    def make(self, node: str) -> None:
        """Make a node whose /data/code is a copy of this checkout."""
        self.tool("make", self.name(node), ADDRESSES[node])
        for package in PACKAGES:
            shutil.copytree(PROJECT / package, self.data(node) / "code" / package)

    def command(self, node: str, line: str) -> list[str]:
        variables = "PYTHONPATH=/data/code RAY_worker_niceness=0 RAY_AUTH_MODE=disabled"
        return ["run", self.name(node), f"export {variables}; {line}"]

    def run(self, node: str, line: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command on a node."""
        return self.tool(*self.command(node, line), timeout_s=timeout_s)

    def start(self, node: str, line: str) -> subprocess.Popen[str]:
        """Start a command on a node; its output goes to `NODE.log` in its /data."""
        words = self.command(node, f"{line} >/data/{node}.log 2>&1")
        return subprocess.Popen(["bash", str(TOOL), *words], env=self.environment, text=True)

    def log(self, node: str) -> str:
        path = self.data(node) / f"{node}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def filmweaver(self, *words: str, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run a command on the head."""
        line = " ".join(["python -m cluster.cli", *words])
        return self.run("head", line, timeout_s)

    def kill(self, node: str) -> None:
        self.tool("kill", self.name(node))

    def start_head(self, num_cpus: int) -> None:
        """Start Ray on the head."""
        self._start_ray("head", "--head --port 6379 --dashboard-host 0.0.0.0", num_cpus)

    def join(self, node: str, num_cpus: int) -> None:
        """Start Ray on a node, as a worker of the head."""
        self._start_ray(node, f"--address {ADDRESSES['head']}:6379", num_cpus)

    def _start_ray(self, node: str, options: str, num_cpus: int) -> None:
        options += f" --node-ip-address {ADDRESSES[node]} --num-cpus {num_cpus}"
        done = self.run(node, f"ray start {options}", START_S)
        assert done.returncode == 0, done.stderr[-2000:]


def skip_unless_possible() -> None:
    """Skip the test on a machine that cannot make nodes."""
    if not TOOL.exists():
        pytest.skip(f"no {TOOL}")
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("nsenter"):
        pytest.skip("isolated nodes need root, ip and nsenter")
    if subprocess.run(["ip", "netns"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine has no network namespaces")
    if sys.prefix == sys.base_prefix:
        pytest.skip("the nodes need a virtual environment")


@contextmanager
def two_nodes(folder: Path) -> Iterator[Nodes]:
    """Make the nodes, with a bucket `films` in the store; Ray runs on none of them yet."""
    nodes = Nodes(folder)
    server = None
    try:
        for node in ADDRESSES:
            nodes.make(node)
        server = nodes.start("store", f"moto_server -H {ADDRESSES['store']} -p 5000")
        create = (
            "from pyarrow import fs; s3 = fs.S3FileSystem(allow_bucket_creation=True, "
            f"endpoint_override='http://{ADDRESSES['store']}:5000'); s3.create_dir('films')"
        )
        for _ in range(30):
            if nodes.run("head", f'python -c "{create}"').returncode == 0:
                break
            time.sleep(1.0)
        yield nodes
    finally:
        nodes.tool("clear")
        if server is not None:
            server.wait(timeout=30)
