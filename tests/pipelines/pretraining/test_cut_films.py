"""Films made for training the shot detector: their truth holds, and training on them works."""

import json

import cv2
import numpy as np
import pytest

from fw_model.errors import CheckpointError, ConfigError, DataError
from fw_model.media.video import write_video
from pipelines.curation.detectors.base import Transition, make_detector
from pipelines.pretraining.cut_detector import DetectorPretrainConfig, pretrain_detector
from pipelines.pretraining.cut_examples import _label, measure_cuts
from pipelines.pretraining.cut_films import CutFilm, make_film
from pipelines.pretraining.cut_shots import load_footage, take
from tests.pipelines.curation.footage import FPS, film, scenery


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A video whose cuts are judged, one that is taken as one shot, and a picture."""
    folder = tmp_path_factory.mktemp("footage")
    write_video(folder / "judged.mp4", film([1, 2, 3], 20), fps=FPS)
    write_video(folder / "single.mp4", film([4], 30), fps=FPS)
    cv2.imwrite(str(folder / "place.png"), scenery(5, size=(320, 240)))
    truth = {"judged.mp4": {"cuts": [20, 40], "gradual": [[44, 47]]}}
    (folder / "GROUND_TRUTH.json").write_text(json.dumps(truth))
    return folder


@pytest.fixture(scope="module")
def footage(folder):
    return load_footage(folder)


def test_footage_is_split_at_judged_cuts_and_without_transitions(footage):
    lengths = sorted(
        (shot.source, len(shot.frames)) for shot in footage._shots if not shot.is_picture
    )
    assert lengths == [
        ("judged.mp4", 12), ("judged.mp4", 20), ("judged.mp4", 20), ("single.mp4", 30)
    ]  # fmt: skip
    assert sum(shot.is_picture for shot in footage._shots) == 1


def test_a_folder_without_footage_is_refused(tmp_path):
    with pytest.raises(DataError, match="no video of 8 frames and no picture"):
        load_footage(tmp_path)


def test_a_shot_gives_as_many_frames_as_are_asked_for(footage):
    rng = np.random.default_rng(0)
    for number in range(40):
        shot = footage.sample(rng)
        frames = take(shot, 5 + number, rng, is_fast=number % 2 == 0)
        assert frames.shape == (5 + number, 3, 36, 64)
        assert frames.min() >= 0 and frames.max() <= 255


def test_a_film_is_the_same_for_the_same_seed(footage):
    one, two = (make_film(footage, np.random.default_rng(3)) for _ in range(2))
    assert (one.frames == two.frames).all()
    assert (one.cuts, one.gradual, one.fps) == (two.cuts, two.gradual, two.fps)


def test_most_cuts_of_films_change_the_picture_more_than_anything_beside_them(footage):
    shares = []
    for seed in range(20):
        made = make_film(footage, np.random.default_rng(seed))
        steps = np.abs(np.diff(made.frames.astype(np.float32), axis=0)).mean((1, 2, 3))
        assert all(0 < cut < len(made.frames) for cut in made.cuts)
        shares += [steps[cut - 1] > 2 * np.median(steps) for cut in made.cuts]
    assert len(shares) > 60 and np.mean(shares) > 0.9


def test_possible_cuts_are_labelled_with_the_truth(footage):
    films = [make_film(footage, np.random.default_rng(seed)) for seed in range(10)]
    found = [measure_cuts(made) for made in films]
    num_cuts = sum(len(made.cuts) for made in films)
    num_true = sum(int(each.is_true.sum()) for each in found)
    assert 0.9 * num_cuts <= num_true <= num_cuts
    assert any(not each.is_true.all() for each in found)


@pytest.mark.parametrize(
    ("span", "label"),
    [((10, 20), True), ((12, 20), True), ((30, 40), False), ((18, 30), None), ((19, 20), None)],
)
def test_a_proposal_is_right_if_it_lies_in_a_true_transition_and_covers_it(span, label):
    assert _label(Transition("gradual", *span, 1.0), ((10, 19),)) is label


def test_a_span_that_only_marks_an_unclear_cut_labels_nothing():
    assert _label(Transition("gradual", 10, 12, 1.0), ((10, 11),)) is None


def test_a_film_without_candidates_gives_no_examples():
    still = np.full((30, 3, 36, 64), 90, np.uint8)
    assert len(measure_cuts(CutFilm(still, (), (), 24.0)).is_true) == 0


def test_training_writes_networks_that_the_detector_loads(folder, tmp_path):
    config = DetectorPretrainConfig(num_films=40, steps=30, save_every=10, widths=(8,))
    accuracy = pretrain_detector(config, folder, tmp_path, num_workers=1)
    assert set(accuracy) == {
        "cuts_precision", "cuts_recall", "gradual_precision", "gradual_recall"
    }  # fmt: skip
    for name in ("learned_cuts", "learned_gradual"):
        assert (tmp_path / f"{name}.safetensors").is_file()
    cuts, gradual = (str(tmp_path / f"learned_{kind}.safetensors") for kind in ("cuts", "gradual"))
    make_detector("learned", {"path": cuts, "gradual_path": gradual}, fps=24)
    with pytest.raises(ConfigError, match="features"):
        make_detector("learned", {"path": cuts, "gradual_path": cuts}, fps=24)

    again = pretrain_detector(config, folder, tmp_path, num_workers=1)  # nothing is left to do
    assert again == accuracy
    other = config.model_copy(update={"learning_rate": 1e-4})
    with pytest.raises(CheckpointError, match="settings"):
        pretrain_detector(other, folder, tmp_path, num_workers=1)
