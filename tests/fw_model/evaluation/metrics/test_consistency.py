"""The CLIP measures, by an embedder that knows colours alone."""

import numpy as np
import pytest

from fw_model.evaluation.judges.characters import found_by_toy_judge
from fw_model.evaluation.metrics.consistency import clip_measures, crop, embed_story
from fw_model.evaluation.stories.truth import FilmedShot
from tests.fw_model.evaluation.made_up import asked, seen, story


class ColourEmbedder:
    """Embeds an image as its mean colour, every text as red."""

    model_id, width, image_size = "colours", 3, 8

    def embed_images(self, images):
        rows = np.stack([image.reshape(-1, 3).mean(0) for image in images]).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def embed_text(self, prompts):
        return np.tile(np.array([1, 0, 0], np.float32), (len(prompts), 1))


def shot(around, middle):
    frames = np.empty((3, 32, 32, 3), np.uint8)
    frames[:] = around
    frames[:, 8:24, 8:24] = middle
    return FilmedShot(frames, (0,))


RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)


def measures(shots, truth):
    readings = [seen(num_frames=len(shot.frames)) for shot in shots]
    embeddings = embed_story(
        shots, truth, found_by_toy_judge(shots, readings, truth).boxes, ColourEmbedder()
    )
    return clip_measures(embeddings, truth)


def test_the_same_shot_twice_is_wholly_consistent():
    found = measures([shot(BLUE, RED)] * 2, story(asked(), asked()))
    assert found["character_consistency"] == pytest.approx(100)
    assert found["overall_consistency"] == pytest.approx(100)
    assert found["character_alignment"] == pytest.approx(100)
    assert found["overall_alignment"] < 50


def test_a_character_of_another_colour_is_inconsistent_wherever_it_stands():
    found = measures([shot(BLUE, RED), shot(BLUE, GREEN)], story(asked(), asked()))
    assert found["character_consistency"] == pytest.approx(0, abs=1e-3)
    assert 50 < found["overall_consistency"] < 100
    assert found["character_alignment"] == pytest.approx(50)


def test_shots_of_different_places_are_not_compared():
    truth = story(asked(), asked(place="city", place_index=1))
    assert measures([shot(BLUE, RED), shot(GREEN, RED)], truth)["overall_consistency"] is None


def test_a_character_that_never_recurs_has_no_consistency():
    assert measures([shot(BLUE, RED)], story(asked()))["character_consistency"] is None


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.9, 0.9, 1.0, 1.0), (0.5, 0.5, 0.5, 0.5)])
def test_a_crop_is_never_empty(box):
    cut = crop(np.zeros((32, 48, 3), np.uint8), box)
    assert min(cut.shape[:2]) >= 8


def test_frames_of_all_chunks_count_alike():
    frames = np.concatenate([shot(BLUE, RED).frames, shot(RED, RED).frames])
    two_chunks = FilmedShot(frames, (0, 3))
    one = measures([shot(BLUE, RED)], story(asked()))["overall_alignment"]
    other = measures([shot(RED, RED)], story(asked()))["overall_alignment"]
    assert measures([two_chunks], story(asked()))["overall_alignment"] == pytest.approx(
        (one + other) / 2
    )
