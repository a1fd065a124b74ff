"""Ablations and rivals differ from the full method in their caches, and in nothing else."""

import numpy as np
import pytest

from fw_model.evaluation.variants import VARIANTS, film_story
from fw_model.generation.generator import StoryGenerator
from fw_model.generation.request import ChunkRequest
from fw_model.generation.story_file import StoryFile
from tests.fw_model.small_model import small_film_model

PROMPTS = ("a red house", "a green field", "a red house again")


@pytest.fixture(scope="module")
def films():
    generator = StoryGenerator(small_film_model())
    return {
        name: film_story(generator, PROMPTS, seed=11, num_chunks=2, variant=variant)
        for name, variant in VARIANTS.items()
    }


def test_the_full_variant_is_what_the_generator_makes(films):
    story = StoryFile.model_validate(
        {"title": "t", "seed": 11, "shots": [{"prompt": p, "num_chunks": 2} for p in PROMPTS]}
    )
    chunks = list(StoryGenerator(small_film_model()).generate_story(story))
    for index, shot in enumerate(films["full"]):
        made = np.concatenate([c.result.frames for c in chunks if c.shot == index])
        assert np.array_equal(shot.frames, made)
    keyframes = [k.keyframe for c in chunks if c.shot == 2 for k in c.request.keyframes]
    cached = films["full"][2].cached
    assert [(c.shot, c.frame) for c in cached] * 2 == [(k.shot, k.frame) for k in keyframes]


def test_each_variant_reads_its_caches_alone(films):
    reads_shot_cache = {name: bool(shots[2].cached) for name, shots in films.items()}
    assert [name for name, reads in reads_shot_cache.items() if not reads] == [
        "without_shot_cache",
        "independent",
        "keyframe_then_animate",
    ]


def test_chunks_begin_where_they_are_said_to(films):
    starts = {name: (shots[1].chunk_starts, len(shots[1].frames)) for name, shots in films.items()}
    assert starts["full"] == starts["without_shot_cache"] == ((0, 5), 13)
    assert starts["without_temporal_cache"] == starts["independent"] == ((0, 5), 10)
    assert starts["keyframe_then_animate"] == ((0, 8), 16)


def test_where_both_caches_are_empty_all_variants_agree(films):
    opening = films["full"][0].frames[:5]
    for name in ("without_shot_cache", "without_temporal_cache", "independent"):
        assert np.array_equal(films[name][0].frames[:5], opening), name
    alone = films["independent"][1].frames[:5]
    assert np.array_equal(films["without_shot_cache"][1].frames[:5], alone)


def test_without_the_temporal_cache_a_later_chunk_is_drawn_as_a_first_one(films):
    generator = StoryGenerator(small_film_model())
    size = {"width": generator.model.record.width, "height": generator.model.record.height}
    request = ChunkRequest(story_seed=11, shot=0, chunk=1, prompt=PROMPTS[0], **size)
    alone = generator.generate_chunk(request).frames
    assert np.array_equal(films["without_temporal_cache"][0].frames[5:10], alone)


def test_a_cache_changes_what_reads_it(films):
    full, without = films["full"], films["without_shot_cache"]
    assert not np.array_equal(full[1].frames, without[1].frames)
    assert not np.array_equal(full[0].frames[5:10], films["without_temporal_cache"][0].frames[5:10])
