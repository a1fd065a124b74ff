"""Story files: what is read, and how a bad one is refused."""

from pathlib import Path

import pytest

from fw_model.errors import InputError
from fw_model.generation.story_file import load_story

GOOD = """
title: A walk
seed: 7
shots:
  - prompt: Wide shot, a robot walks in the meadow by day.
    num_chunks: 2
    extend:
      - {prompt: The robot jumps., num_chunks: 1}
  - prompt: Close-up, a robot waves in the meadow by day.
    references:
      - {image: robot.png, name: robot, weight: 1.5}
"""


def write(folder: Path, text: str) -> Path:
    (folder / "robot.png").write_bytes(b"any bytes: reading it comes later")
    path = folder / "story.yaml"
    path.write_text(text)
    return path


def test_a_good_story_is_read_whole(tmp_path: Path) -> None:
    story = load_story(write(tmp_path, GOOD))
    assert story.title == "A walk" and story.seed == 7
    assert [(s.prompt, s.num_chunks) for s in story.shots[0].segments] == [
        ("Wide shot, a robot walks in the meadow by day.", 2),
        ("The robot jumps.", 1),
    ]
    assert story.shots[1].num_chunks == 1
    assert story.shots[1].references[0].weight == 1.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("shots: []", "shots"),
        ("title: [", "line 1"),
        ("- a list", "mapping"),
        ("shots: [{prompt: a, num_chunks: 0}]", "shots.0.num_chunks"),
        ("shots: [{prompt: a, num_chunks: 99999}]", "3600"),
        ("shots: [{prompt: '   '}]", "blank"),
        ("shots: [{prompt: a, lenght: 3}]", "lenght"),
        ("shots: [{prompt: %s}]" % ("x" * 10_000), "4000 characters"),
        ("shots: [{prompt: a, references: [{image: no.png, name: n}]}]", "no.png"),
        ("seed: -1\nshots: [{prompt: a}]", "seed"),
    ],
)
def test_a_bad_story_is_refused_in_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        load_story(write(tmp_path, text))
    assert says in str(caught.value)
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_an_absent_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_story(tmp_path / "absent.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        load_story(tmp_path / "binary.yaml")
