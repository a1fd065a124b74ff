"""The options of `evaluate` that choose stories, and `write-scenes`."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from fw_model.errors import ConfigError, FilmWeaverError, InputError
from pipelines.evaluation.scene_writer import WritingSummary
from pipelines.llm.usage import Usage


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """The evaluation settings of each run that would have been, in a folder with a suite."""
    asked = []

    def run(config, _model, _generation, _output):
        asked.append(config)
        return {}

    monkeypatch.chdir(tmp_path)
    (tmp_path / "stories of mine").write_text("A hen walks.\n###\nA cow eats.\n###\nA pig runs.")
    monkeypatch.setattr("cluster.ray_start.ray_session", lambda _ray: nullcontext())
    monkeypatch.setattr("pipelines.evaluate.run_evaluate", run)
    monkeypatch.setattr("fw_model.evaluation.report.table.table_text", lambda _card: "a table")
    return asked


def invoke(*words):
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("words", "suite", "seeds"),
    [
        ([], "toyfilms", "1000000:1000010"),
        (["--seeds", "7:9"], "toyfilms", "7:9"),
        (["--suite", "scenes20x5"], "scenes20x5", "0:20"),
        (["--suite", "scenes20x5", "--seeds", "4:5"], "scenes20x5", "4:5"),
        (["--suite", "stories of mine"], "file", "0:3"),
        (["--suite", "stories of mine", "--seeds", "2:3"], "file", "2:3"),
    ],
)
def test_a_suite_is_a_name_or_a_file_and_has_seeds_of_its_own(evaluated, words, suite, seeds):
    result = invoke("evaluate", "out", *words)
    assert result.exit_code == 0, result.output
    (config,) = evaluated
    assert (config.suite, config.seeds) == (suite, seeds)
    assert config.suite_path == (
        str(Path("stories of mine").absolute()) if suite == "file" else None
    )


@pytest.mark.parametrize(
    ("words", "kind", "expected"),
    [
        (["--suite", "lost.json"], InputError, "lost.json"),
        (["--suite", "lost.txt"], InputError, "lost.txt"),
        (["--suite", "scenes20x5", "--seeds", "18:21"], ConfigError, "0:20"),
        (["--suite", "stories of mine", "--seeds", "3:4"], ConfigError, "0:3"),
        (["--set", "evaluation.suite=file"], ConfigError, "suite_path"),
    ],
)
def test_stories_that_are_not_there_are_told_before_anything_starts(
    evaluated, words, kind, expected
):
    result = invoke("evaluate", "out", *words)
    assert isinstance(result.exception, kind)
    assert expected in str(result.exception)
    assert evaluated == []


def test_a_cluster_reads_the_file_from_a_shared_disk(evaluated, tmp_path):
    words = ("evaluate", "/shared/out", "--address", "http://head.example:8265", "--suite")
    result = invoke(*words, "stories of mine")
    assert isinstance(result.exception, ConfigError)
    assert "'stories of mine' is read on the cluster" in str(result.exception)


def test_a_submitted_evaluation_names_its_file(evaluated, tmp_path, monkeypatch):
    submitted = []
    monkeypatch.setattr(
        "cluster.submit._run_job", lambda _address, entry, *_job: submitted.append(entry)
    )
    suite = tmp_path / "stories of mine"
    words = ("evaluate", "/shared/out", "--address", "http://head.example:8265", "--suite")
    assert invoke(*words, str(suite)).exit_code == 0
    assert f"--suite '{suite}'" in submitted[0]


@pytest.mark.parametrize("left_out", [(), ("scene 2: it has 3 shots and should have 5",)])
def test_write_scenes_says_what_was_written_and_what_was_not(monkeypatch, tmp_path, left_out):
    asked = []

    def run(config, output, on_progress):
        asked.append((config.num_scenes, config.model, output))
        return WritingSummary(4, 2, left_out, Usage(requests=3, cost_usd=0.5))

    monkeypatch.setattr("pipelines.evaluation.scene_writer.run_write_scenes", run)
    out = tmp_path / "scenes.json"
    result = invoke("write-scenes", str(out), "--num-scenes", "6", "--set", "writer.model=m")
    assert result.exit_code == 0, result.output
    assert asked == [(6, "m", out)]
    said = f"4 scenes kept, 2 written, {len(left_out)} left out; 3 requests, 0.50 USD."
    assert said in result.output
    assert ("it has 3 shots" in result.output) == bool(left_out)
    assert ("ask for the missing scenes" in result.output) == bool(left_out)


def test_scenes_are_written_to_a_local_file():
    result = invoke("write-scenes", "s3://bucket/scenes.json")
    assert isinstance(result.exception, FilmWeaverError)
