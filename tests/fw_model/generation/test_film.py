"""A film in one call equals the story's chunks, one after the other."""

from pathlib import Path

import numpy as np
import pytest

from fw_model.generation.film import make_film
from fw_model.generation.generator import StoryGenerator
from fw_model.generation.story_file import ShotSpec, StoryFile
from fw_model.loading.load import FilmModel
from fw_model.media.video import probe
from tests.fw_model.small_model import small_film_model

PROMPTS = ("a red house", "a green field")


@pytest.fixture(scope="module")
def model() -> FilmModel:
    return small_film_model()


def test_prompts_become_shots_of_two_chunks(model: FilmModel) -> None:
    story = StoryFile(shots=tuple(ShotSpec(prompt=p, num_chunks=2) for p in PROMPTS))
    chunks = [c.result.frames for c in StoryGenerator(model).generate_story(story)]
    assert np.array_equal(make_film(model, PROMPTS).frames, np.concatenate(chunks))


def test_a_story_is_saved_at_the_rate_of_its_model(model: FilmModel, tmp_path: Path) -> None:
    story = StoryFile(shots=(ShotSpec(prompt=PROMPTS[0]),))
    film = make_film(model, story)
    info = probe(film.save(tmp_path / "film.mp4"))
    assert info.fps == model.record.fps
    assert f"{len(film.frames)} frames" in repr(film)
