"""Failures of actors and tasks become one sentence that says where the traceback is."""

import pytest

from cluster.console import one_sentence
from cluster.ray_start import RayConfig, ray_session
from cluster.worker_failure import LOG_FILE, WorkerFailed, worker_failure
from fw_model.errors import StorageError
from pipelines.curation.pools import actor_pool, blocks_of_rows, on_nodes, set_up_ray_data
from pipelines.storage.shared_paths import SharedPath, SharedPaths
from tests.pipelines.failing_operators import ROW, FailingOperator, FailsToStart

ray = pytest.importorskip("ray")


def fail_in_task(error: Exception) -> None:
    raise error


def run(operator, error: Exception, shared: SharedPaths | None = None) -> BaseException:
    """Return what a command gets from a graph whose operator raises `error`."""
    set_up_ray_data()
    rows = blocks_of_rows([{"name": "a"}], ROW)
    checked = on_nodes(operator, shared or SharedPaths("", ""))
    graph = rows.map_batches(checked, fn_constructor_args=(error,), **actor_pool(1, cpus=0.5))
    with pytest.raises(Exception) as raised, ray_session(RayConfig()):  # noqa: PT011
        graph.materialize()
    return raised.value


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("operator", [FailingOperator, FailsToStart])
def test_our_error_in_an_operator_keeps_its_sentence(operator):
    assert one_sentence(run(operator, StorageError("The disk is gone."))) == "The disk is gone."


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("operator", [FailingOperator, FailsToStart])
def test_a_bug_in_an_operator_is_one_sentence_with_the_place_of_its_traceback(operator):
    error = run(operator, IndexError("no such row"))
    assert isinstance(error, WorkerFailed)
    sentence = one_sentence(error)
    assert sentence is not None and "\n" not in sentence
    assert f"{operator.__name__} failed on node" in sentence
    assert "IndexError: no such row" in sentence
    log = sentence.rpartition("the traceback is in ")[2].rstrip(".")
    assert log.endswith(LOG_FILE)
    with open(log, encoding="utf-8") as file:
        assert "no such row" in file.read()


@pytest.mark.usefixtures("ray_cluster")
def test_an_actor_on_a_node_that_does_not_see_a_path_ends_the_run(tmp_path):
    elsewhere = SharedPaths("another node", "node-a", (SharedPath("source", "/nowhere/a.mp4", 3),))
    sentence = one_sentence(run(FailingOperator, ValueError("unused"), elsewhere))
    assert sentence is not None
    assert "does not see the source /nowhere/a.mp4 of node node-a" in sentence


def test_what_ray_did_not_raise_is_left_alone(tmp_path):
    assert worker_failure(IndexError("a bug of the driver"), tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_a_dead_worker_is_one_sentence(tmp_path):
    error = ray.exceptions.WorkerCrashedError()
    failure = worker_failure(error, tmp_path)
    assert failure is not None
    assert "WorkerCrashedError" in str(failure) and str(tmp_path / LOG_FILE) in str(failure)
