"""Every story is filmed, also if actors die on the way."""

import os
from pathlib import Path

import pytest
import ray
from ray.exceptions import RayActorError

from fw_model.errors import StorageError
from fw_model.loading.config import ModelConfig
from pipelines.evaluation.jobs import StoryJob
from pipelines.evaluation.work_queue import ATTEMPTS, film_all

pytestmark = pytest.mark.usefixtures("ray_cluster")


def jobs(number: int) -> list[StoryJob]:
    return [StoryJob("full", seed, ModelConfig(), "hash") for seed in range(number)]


class Filmer:
    """Leaves a file for each film; dies once at the story that `folder/die` names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def film(self, job: StoryJob) -> StoryJob:
        order = self._folder / "die"
        if order.exists() and order.read_text() in (str(job.seed), "always"):
            if order.read_text() != "always":
                order.unlink()
            os._exit(1)
        if (self._folder / "fail").exists():
            raise StorageError("The disk is gone.")
        (self._folder / f"film_{job.seed}").open("a").write("filmed\n")
        return job


def film(folder: Path, *, replace: bool = True) -> list[str]:
    actor = ray.remote(num_cpus=0.5)(Filmer)
    film_all(lambda: actor.remote(folder), jobs(4), num_actors=2, replace=replace)
    return [path.read_text() for path in sorted(folder.glob("film_*"))]


@pytest.mark.parametrize("seed", [None, 0, 3])
def test_each_story_is_filmed_once_also_if_an_actor_dies(tmp_path, seed):
    if seed is not None:
        (tmp_path / "die").write_text(str(seed))
    assert film(tmp_path) == ["filmed\n"] * 4


def test_a_story_that_kills_every_actor_ends_the_run(tmp_path):
    (tmp_path / "die").write_text("always")
    with pytest.raises(RayActorError):
        film(tmp_path)
    assert ATTEMPTS > 1


def test_with_a_budget_no_actor_is_replaced(tmp_path):
    (tmp_path / "die").write_text("0")
    with pytest.raises(RayActorError):
        film(tmp_path, replace=False)


def test_the_first_error_of_a_story_ends_the_run(tmp_path):
    (tmp_path / "fail").touch()
    with pytest.raises(StorageError, match="The disk is gone"):
        film(tmp_path)
