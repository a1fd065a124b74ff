"""The command line: its contract, and how it fails."""

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from cluster.cli import app
from cluster.commands.options import retry_settings
from fw_model.errors import CapacityError, ConfigError, DataError, FilmWeaverError

COMMANDS = typer.main.get_command(app).commands


def filmweaver(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "cluster.cli", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )


def test_the_commands_of_the_contract_are_there() -> None:
    names = {"curate", "encode", "train", "generate", "serve", "evaluate", "doctor", "demo"}
    assert names | {"export", "toyfilms", "pretrain", "write-scenes"} == set(COMMANDS)


@pytest.mark.parametrize(
    "name",
    [name for name in COMMANDS if name != "pretrain"]
    + ["vae", "embedder", "text-encoder", "toy-judge"],
)
def test_every_command_takes_the_common_options(name: str) -> None:
    command = COMMANDS.get(name) or COMMANDS["pretrain"].commands[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {"--profile", "--config", "--set", "--address"} <= options


def test_reasons_to_try_again_are_videos_or_scenes() -> None:
    assert retry_settings([]) == []
    assert retry_settings(["timeout", "caption_refused"]) == [
        'curation.retry_quarantined=["timeout"]',
        'curation.retry_rejected=["caption_refused"]',
    ]
    assert retry_settings(["all"]) == [
        'curation.retry_quarantined=["all"]',
        'curation.retry_rejected=["all"]',
    ]
    with pytest.raises(ConfigError, match="'bad luck'"):
        retry_settings(["bad luck"])


def test_help_does_not_load_what_is_heavy() -> None:
    code = (
        "import sys\nfrom cluster.cli import app\n"
        "assert not {'torch', 'ray', 'diffusers', 'deepspeed'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["generate", "missing.yaml", "--out", "x.mp4"], "missing.yaml"),
        (["doctor", "--set", "serving.prot=1"], "serving.prot"),
        (["doctor", "--profile", "huge"], "huge"),
        (["demo", "--films", "missing-folder"], "missing-folder"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_1(words: list[str], expected: str) -> None:
    done = filmweaver(*words)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_only_on_a_ray_of_its_own_a_server_wants_its_port_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import contextlib

    def taken(*_port: int, host: str) -> None:
        raise CapacityError(f"a port of {host} is taken")

    served = []
    monkeypatch.setattr("serve.app.check_port", taken)
    monkeypatch.setattr("serve.app.run", lambda *_sections, port: served.append(port))
    monkeypatch.setattr("cluster.ray_start.ray_session", lambda _ray: contextlib.nullcontext())
    assert isinstance(CliRunner().invoke(app, ["serve"]).exception, CapacityError)
    assert CliRunner().invoke(app, ["serve", "--address", "auto"]).exit_code == 0
    assert served == [None]


STORIES = {
    "unreadable": ("shots: [", "YAML"),
    "unknown_key": ("shots: [{prompt: a bear, lenght: 3}]", "lenght"),
    "zero_chunks": ("shots: [{prompt: a bear, num_chunks: 0}]", "num_chunks"),
    "long_prompt": (f"shots: [{{prompt: '{'bear ' * 2000}'}}]", "10000 characters"),
    "lost_reference": (
        "shots: [{prompt: a bear, references: [{image: no.png, name: a bear}]}]",
        "no.png",
    ),
}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--out", "taken/film.mp4"], "folder of"),
        (["--out", "folder"], "is a folder"),
        (["--out", "film.xyz"], "film.xyz"),
        (["--out", "film.mp4", "--storyboard", "storyboard.jpg"], "storyboard.jpg"),
        (["--out", "film.mp4", "--storyboard", "taken/storyboard.png"], "folder of"),
    ],
)
def test_a_film_that_could_not_be_written_is_refused_before_the_model_loads(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cluster.film_chunks.load_model", lambda _config: pytest.fail("loaded"))
    Path("story.yaml").write_text("shots: [{prompt: a bear}]")
    Path("taken").touch()
    Path("folder").mkdir()
    result = CliRunner().invoke(app, ["generate", "story.yaml", *words])
    assert isinstance(result.exception, FilmWeaverError)
    assert expected in str(result.exception)


@pytest.mark.parametrize("case", STORIES)
def test_a_bad_story_leaves_nothing_behind(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.console import one_sentence

    text, words = STORIES[case]
    story = tmp_path / "story.yaml"
    story.write_text(text)
    film = tmp_path / "film.mp4"
    result = CliRunner().invoke(app, ["generate", str(story), "--out", str(film)])
    assert result.exit_code != 0
    sentence = one_sentence(result.exception)
    assert sentence is not None and words in sentence
    assert "\n" not in sentence
    assert {path.name for path in tmp_path.iterdir()} == {"story.yaml"}


@pytest.mark.parametrize("failed", [0, 2])
def test_encode_says_how_many_videos_failed(
    failed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cluster.ray_start
    import pipelines.encode

    summary = pipelines.encode.EncodeSummary(
        videos=7, tried_now=3, encoded=4, failed=failed, empty=1, shots=9, keyframes=9, texts=5,
        failures=("v.mp4: gone",) * failed,
    )  # fmt: skip
    monkeypatch.setattr(cluster.ray_start, "ray_session", lambda _: nullcontext())
    monkeypatch.setattr(pipelines.encode, "run_encode", lambda *_: summary)
    result = CliRunner().invoke(app, ["encode", str(tmp_path), str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert f"7 videos: 4 encoded, 1 empty, {failed} failed; 9 shots" in result.output
    assert ("retry the failed videos" in result.output) == (failed > 0)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "encoded", "gs://films/model"],
    ],
)
def test_a_uri_is_refused_where_only_folders_work(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words)
    assert isinstance(result.exception, ConfigError)
    assert "://films/" in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_curation_writes_to_a_uri_and_encoding_reads_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.curation.report.summary import CurationSummary
    from pipelines.encoding.captioned_videos import read_curated

    asked = []

    def run(config: Any, _model: Any, **_options: Any) -> CurationSummary:
        asked.append(config.output)
        return CurationSummary(1, 1, 0, 1, 1, 0)

    monkeypatch.setattr("pipelines.curate.run_curation", run)
    monkeypatch.setattr("cluster.ray_start.ray_session", lambda _config: nullcontext())
    output = f"file://{tmp_path}/curated"
    result = CliRunner().invoke(app, ["curate", "films", output])
    assert result.exit_code == 0 and asked == [output]
    assert f"{tmp_path}/curated/report.html" in result.stdout
    with pytest.raises(DataError, match=f"{tmp_path}/curated/ holds no curated captions"):
        read_curated(output)
