"""Films rendered straight into a dataset are there once, and the dataset can be extended."""

import numpy as np
import pytest

from fw_model.loading.config import ModelConfig
from fw_model.schemas.encoded import text_id
from fw_model.training.data.dataset import EncodedDataset
from pipelines.encoding.config import EncodeConfig
from pipelines.encoding.dataset_store import EncodedStore
from pipelines.encoding.shot_frames import FrameFormat
from pipelines.toyfilms.config import ToyFilmsConfig
from pipelines.toyfilms.encoded import RenderJob, encode_films, film_spans, render_shots
from pipelines.toyfilms.prompts import shot_prompt
from pipelines.toyfilms.render import RENDER_VERSION, render_film
from pipelines.toyfilms.story import sample_film

SHORT = {"min_shots": 2, "max_shots": 2, "max_shot_s": 2.0}
FORM = FrameFormat(64, 64, 12.0, 360, 4)


def job(folder, **films):
    config = ToyFilmsConfig(**{**SHORT, "num_films": 2, **films})
    return RenderJob(config, EncodeConfig(videos_per_part=1), ModelConfig(), folder)


def parts(folder):
    return {path.name for path in (folder / "sources").glob("*.parquet")}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered")
    return folder, encode_films(job(folder), num_processes=2)


def test_every_shot_has_its_latents_prompt_and_three_keyframes(rendered):
    folder, counts = rendered
    assert counts == {"shots": 4, "keyframes": 12, "texts": counts["texts"], "sources": 2}
    data = EncodedDataset(folder)
    assert data.num_shots == 4
    texts = EncodedStore(folder).store
    stored = {
        row["text_id"]
        for part in EncodedStore(folder).meta().files
        for row in texts.read_table(f"texts/{part}", ["text_id"]).to_pylist()
    }
    film = sample_film(0, ToyFilmsConfig(**SHORT))
    assert {text_id(shot_prompt(film, i)) for i in range(2)} <= stored


def test_the_same_call_renders_nothing_again_and_other_films_are_added(rendered):
    folder, _ = rendered
    before = parts(folder)
    encode_films(job(folder), num_processes=1)
    assert parts(folder) == before
    counts = encode_films(job(folder, first_seed=7, num_films=1), num_processes=1)
    assert counts["sources"] == 3
    assert before < parts(folder)


def test_frames_are_those_of_the_film_without_the_transitions():
    config = ToyFilmsConfig(
        min_shots=3, max_shots=3, dissolve_probability=0.4, fade_probability=0.2
    )
    film = next(
        film
        for film in (sample_film(seed, config) for seed in range(50))
        if film.shots[1].transition_frames
    )
    whole, truth = render_film(film, width=64, height=64)
    spans = film_spans(film)
    mixed = {n for span in truth["gradual"] for n in range(span["start_frame"], span["end_frame"])}
    for shot, span in zip(render_shots(film, spans, FORM), spans.shots, strict=True):
        assert not mixed & set(range(span.start, span.end))
        np.testing.assert_array_equal(np.stack(shot.frames), whole[span.start : span.end])
        for number, picture in shot.keyframes:
            np.testing.assert_array_equal(picture, whole[number])
        assert len(shot.keyframes) == 3


def test_pictures_are_those_of_this_version_of_the_renderer():
    """If this fails, other pixels are rendered: raise RENDER_VERSION and correct the numbers."""
    film = sample_film(3, ToyFilmsConfig())
    whole, _ = render_film(film, width=64, height=64)
    assert (RENDER_VERSION, len(whole)) == (2, 177)
    means = whole[:160:40].mean(axis=(1, 2, 3))
    rendered = [152.749, 151.865, 158.523, 147.728]
    np.testing.assert_allclose(means, rendered, atol=0.1)  # levels; libraries round differently
