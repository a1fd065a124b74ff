"""Fixtures shared by all tests: one small local Ray, the packaged tiny model, real footage."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.ray_start import start_ray

# Set before torch and Ray are first imported, here and in every process they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def project_dir() -> Path:
    """The root of the source tree."""
    return PROJECT


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One local Ray of two CPUs for the whole session; workers import the source tree."""
    ray = pytest.importorskip("ray")
    if ray.is_initialized():
        yield
        return
    start_ray(
        "local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=300 * 1024**2,
        runtime_env={"env_vars": {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}},
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_path() -> Path:
    """The folder of the packaged tiny model."""
    return PROJECT / "fw_model" / "assets" / "tiny"


@pytest.fixture(scope="session")
def tiny_model(tiny_path: Path):
    """The packaged tiny model, loaded once on the CPU in float32."""
    from fw_model.loading.config import ModelConfig
    from fw_model.loading.load import load_model

    return load_model(ModelConfig(path=str(tiny_path), device="cpu", dtype="float32"))


@pytest.fixture(scope="session")
def shared_videos() -> Path:
    """Real footage with judged cuts, where the machine has it; the test is skipped elsewhere."""
    found = os.environ.get("FILMWEAVER_TEST_VIDEOS", str(PROJECT.parent / "shared" / "videos"))
    if not Path(found, "GROUND_TRUTH.json").exists():
        pytest.skip("no footage: set FILMWEAVER_TEST_VIDEOS to a folder with GROUND_TRUTH.json")
    return Path(found)
