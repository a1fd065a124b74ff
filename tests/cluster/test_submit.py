"""What a command needs to run as a job elsewhere."""

from pathlib import Path

import pytest
import yaml
from PIL import Image

from cluster.submit import _ship_story, _visible, is_job_server, submit
from fw_model.errors import ConfigError
from fw_model.generation.story_file import load_story


def test_only_web_addresses_are_job_servers() -> None:
    assert is_job_server("http://head:8265")
    assert not is_job_server("auto")
    assert not is_job_server("head:6379")
    assert not is_job_server(None)


def test_a_relative_path_is_refused() -> None:
    with pytest.raises(ConfigError, match="films"):
        _visible(["curate", Path("films"), Path("/data/out")])
    with pytest.raises(ConfigError, match="story/films"):
        _visible(["curate", Path("story/films"), Path("/data/out")])
    assert _visible(["curate", "s3://films", Path("/data/out")]) == [
        "curate",
        "s3://films",
        "/data/out",
    ]


def test_only_the_shipped_story_may_be_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = tmp_path / "story.yaml"
    story.write_text("shots: [{prompt: a bear}]")
    sent = []
    monkeypatch.setattr("cluster.submit._run_job", lambda *job: sent.append(job[1]))
    words: list[str | Path] = ["generate", story, "--out", Path("/data/film.mp4")]
    submit("http://head:8265", words, "tiny", None, None, story=story)
    assert sent[0].startswith("filmweaver generate story/story.yaml --out /data/film.mp4")
    words[-1] = Path("story/film.mp4")
    with pytest.raises(ConfigError, match=r"story/film\.mp4"):
        submit("http://head:8265", words, "tiny", None, None, story=story)


def test_a_story_travels_with_its_references(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "pictures" / "bear.png")
    story = tmp_path / "story.yaml"
    reference = {"image": "pictures/bear.png", "name": "a bear"}
    story.write_text(yaml.safe_dump({"shots": [{"prompt": "a bear", "references": [reference]}]}))
    shipped = _ship_story(story, tmp_path / "job" / "story")
    there = load_story(tmp_path / "job" / shipped)
    image = tmp_path / "job" / "story" / there.shots[0].references[0].image
    assert Image.open(image).getpixel((0, 0)) == (255, 0, 0)
