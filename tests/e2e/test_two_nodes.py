"""Commands on nodes that share no disk, only an S3 server."""

import json
import time

import pytest

from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.write import write_films
from tests.e2e.two_nodes import Nodes, skip_unless_possible, two_nodes

pytestmark = pytest.mark.slow
NUM_FILMS = 12
STORY = "shots: [{prompt: a bear, num_chunks: 1}, {prompt: the bear again, num_chunks: 1}]"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    skip_unless_possible()
    with two_nodes(tmp_path_factory.mktemp("nodes")) as made:
        films = made.data("head") / "films"
        write_films(ToyFilmsConfig(num_films=NUM_FILMS, max_shots=4, max_shot_s=2.5), films)
        upload = (
            "import os; from pipelines.storage.store import Store; s = Store('s3://films/raw');"
            "[s.write(n, open('/data/films/' + n, 'rb').read()) for n in os.listdir('/data/films')]"
        )
        assert made.run("head", f'python -c "{upload}"').returncode == 0
        made.start_head(num_cpus=0)
        yield made


def test_curation_starts_without_a_worker_and_survives_the_loss_of_one(nodes: Nodes) -> None:
    words = "curate s3://films/raw s3://films/out --address auto"
    run = nodes.start(
        "head", f"python -m cluster.cli {words} --set curation.captioner.kind=sidecar"
    )
    time.sleep(10.0)
    assert run.poll() is None, nodes.log("head")
    nodes.join("worker", num_cpus=2)
    wait_for_a_committed_video(nodes)
    nodes.kill("worker")
    nodes.join("another", num_cpus=2)
    assert run.wait(timeout=600) == 0, nodes.log("head")[-3000:]
    summary = read_json(nodes, "s3://films/out/summary.json")
    assert (summary["videos_in"], summary["videos_kept"]) == (NUM_FILMS, NUM_FILMS)
    again = nodes.filmweaver(words, "--set curation.captioner.kind=sidecar")
    assert again.returncode == 0, again.stderr[-3000:]
    assert read_json(nodes, "s3://films/out/summary.json")["videos_analyzed_now"] == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("curate /data/films s3://films/other", "the source /data/films/film_"),
        ("curate s3://films/raw /data/other", "the output /data/other"),
        ("encode s3://films/out /data/other", "the output /data/other"),
        ("evaluate /data/other --seeds 1000000:1000001", "the output /data/other"),
        ("toyfilms /data/other", "the output /data/other"),
    ],
)
def test_a_path_that_only_the_head_sees_is_refused(nodes: Nodes, words: str, named: str) -> None:
    done = nodes.filmweaver(words, "--address auto")
    assert done.returncode == 1, done.stderr[-3000:]
    last = done.stderr.strip().splitlines()[-1]
    assert "filmweaver: Node " in last and "10.77.0.3" in last and named in last
    assert "Traceback" not in done.stderr


def test_a_store_that_fails_inside_an_actor_is_one_sentence(nodes: Nodes) -> None:
    done = nodes.filmweaver("curate s3://films/raw s3://no-such-bucket/out --address auto")
    assert done.returncode == 1
    assert "filmweaver: Cannot write s3://no-such-bucket/out/" in done.stderr
    assert "Traceback" not in done.stderr


def test_encode_and_export(nodes: Nodes) -> None:
    encoded = nodes.filmweaver("encode s3://films/out s3://films/encoded --address auto")
    assert encoded.returncode == 0, encoded.stderr[-3000:]
    exported = nodes.filmweaver("export s3://films/out s3://films/export --format webdataset")
    assert exported.returncode == 0, exported.stderr[-3000:]
    assert read_json(nodes, "s3://films/export/export.json")["complete"]


def test_generate_on_the_cluster_writes_to_a_uri_and_to_this_machine(nodes: Nodes) -> None:
    (nodes.data("head") / "story.yaml").write_text(STORY)
    few = "--set generation.num_inference_steps=2"
    there = "--out s3://films/film.mp4 --storyboard /data/board.png"
    done = nodes.filmweaver(f"generate story.yaml {there} --address auto {few}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (nodes.data("head") / "board.png").is_file()
    dead = nodes.filmweaver("generate story.yaml --out film.mp4 --address 10.77.0.77:6379")
    assert dead.returncode == 1
    assert "Cannot use Ray at '10.77.0.77:6379'" in dead.stderr
    assert not (nodes.data("head") / "film.mp4").exists()


def test_evaluate_on_the_cluster_writes_to_a_uri(nodes: Nodes) -> None:
    settings = (
        "generation.num_inference_steps=2",
        "evaluation.num_bootstrap=100",
        "evaluation.shots_per_story=2",
        "evaluation.num_chunks=1",
        "evaluation.variants=[full]",
    )
    words = "evaluate s3://films/scores --seeds 1000000:1000002 --address auto"
    done = nodes.filmweaver(words, *(f"--set {setting}" for setting in settings))
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(read_json(nodes, "s3://films/scores/scorecard.json")) >= {"variants", "truth"}


def read_json(nodes: Nodes, uri: str):
    """Return the content of a JSON file in the store."""
    code = f"from pipelines.storage.store import read_bytes; print(read_bytes('{uri}').decode())"
    return json.loads(nodes.run("head", f'python -c "{code}"').stdout)


def wait_for_a_committed_video(nodes: Nodes, timeout_s: float = 240.0) -> None:
    """Wait until the ledger of the running curation holds a decoded video."""
    code = "from pipelines.storage.store import Store; print(len(Store('s3://films/out').keys('')))"
    deadline = time.monotonic() + timeout_s
    while int(nodes.run("head", f'python -c "{code}"').stdout or 0) < 12:
        assert time.monotonic() < deadline, nodes.log("head")[-3000:]
