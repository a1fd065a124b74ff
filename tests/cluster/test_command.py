"""A command line submitted as a job says on the cluster what it said here."""

import shlex

import pytest
from typer.testing import CliRunner

from cluster.cli import app
from fw_model.errors import ConfigError

HEAD = ["--address", "http://head.example:8265"]


@pytest.fixture
def submitted(monkeypatch):
    """The command lines that would have been submitted."""
    lines = []
    monkeypatch.setattr("cluster.submit._run_job", lambda _address, line, *_job: lines.append(line))
    return lines


@pytest.mark.parametrize(
    "words",
    [
        ["curate", "s3://films", "/shared/out"],
        ["curate", "/films", "s3://out", "--cut", "copy", "--retry-quarantined", "timeout"],
        ["export", "/curated", "/out", "--format", "webdataset", "--max-shard-mb", "64"],
        ["encode", "/curated", "s3://encoded"],
        ["train", "s3://encoded", "/trained"],
        ["serve", "--port", "9000"],
        ["evaluate", "/out", "--checkpoint", "/model", "--seeds", "1:3", "--suite", "scenes20x5",
         "--ablate", "shot_cache", "--ablate", "independent"],
        ["write-scenes", "/scenes.json", "--num-scenes", "4"],
        ["toyfilms", "/films", "--encoded"],
        ["pretrain", "toy-judge", "/films", "/out"],
        ["demo", "--films", "/films", "--out", "/out"],
        ["doctor"],
    ],
)  # fmt: skip
def test_every_option_travels(submitted, words):
    result = CliRunner().invoke(app, [*words, *HEAD])
    assert result.exit_code == 0, result.exception
    line = shlex.split(submitted[0])
    assert line[0] == "filmweaver"
    profile = line.index("--profile")
    assert line[profile + 2 :] == ["--config", "filmweaver_config.yaml"]
    again = line[1:profile]
    assert again[: len(words)] == words
    defaults = again[len(words) :]  # options with a default are written out
    assert len(defaults) % 2 == 0


def test_a_story_file_travels_and_its_film_does_not(submitted, tmp_path):
    story = tmp_path / "story.yaml"
    story.write_text("shots: [{prompt: a bear}]")
    words = ["generate", str(story), "--out", "/shared/film.mp4"]
    assert CliRunner().invoke(app, [*words, *HEAD]).exit_code == 0
    assert submitted[0].startswith("filmweaver generate story/story.yaml --out /shared/film.mp4")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["curate", "films", "/out"], "films"),
        (["train", "/encoded", "trained"], "trained"),
        (["demo"], "out/demo"),
        (["curate", "/films", "/out", "--retry-quarantined", "bad luck"], "bad luck"),
    ],
)
def test_what_cannot_work_there_is_refused_here(submitted, words, named):
    result = CliRunner().invoke(app, [*words, *HEAD])
    assert isinstance(result.exception, ConfigError)
    assert named in str(result.exception)
    assert not submitted


@pytest.mark.parametrize(
    "words",
    [
        ["export", "/curated", "/out"],
        ["write-scenes", "/scenes.json"],
        ["toyfilms", "/films", "--encoded"],
        ["pretrain", "vae", "/films", "/out"],
        ["doctor"],
    ],
)
def test_a_command_in_one_process_joins_no_ray_and_reserves_what_it_needs(words, monkeypatch):
    result = CliRunner().invoke(app, [*words, "--address", "auto"])
    assert isinstance(result.exception, ConfigError)
    assert "joins no Ray at 'auto'" in str(result.exception)
    reserved = []
    monkeypatch.setattr("cluster.submit._run_job", lambda *job: reserved.append(job[3]))
    result = CliRunner().invoke(app, [*words, "--set", "model.device=cuda", *HEAD])
    assert result.exit_code == 0, result.exception
    assert reserved == [(1.0, 1.0)]


def test_a_command_that_uses_ray_reserves_nothing_for_its_driver(monkeypatch):
    reserved = []
    monkeypatch.setattr("cluster.submit._run_job", lambda *job: reserved.append(job[3]))
    assert CliRunner().invoke(app, ["curate", "s3://films", "s3://out", *HEAD]).exit_code == 0
    assert reserved == [(None, None)]
