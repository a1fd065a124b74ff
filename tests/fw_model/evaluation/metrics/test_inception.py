"""The Inception Score against cases computed by hand, and torchvision's network from its file."""

import numpy as np
import pytest
import torch

from fw_model.errors import CheckpointError
from fw_model.evaluation.judges.config import InceptionConfig
from fw_model.evaluation.metrics.inception import (
    InceptionJudge,
    InceptionV3,
    payload_of,
    prepared,
)
from fw_model.evaluation.scoring.aggregates import INCEPTION_SCORE
from fw_model.evaluation.scoring.bootstrap import bootstrap_interval, difference_interval
from fw_model.evaluation.stories.truth import FilmedShot
from tests.fw_model.evaluation.judge_files import random_inception


def score(*stories):
    """The score of a set whose stories hold these p(y|x), [N, C] each."""
    rows = INCEPTION_SCORE.rows([payload_of(np.asarray(p, np.float64)) for p in stories])
    return float(INCEPTION_SCORE.of_sum(rows.sum(axis=0)))


def score_by_definition(p):
    """exp of the mean KL(p(y|x) || p(y)), written as the paper does; p > 0 everywhere."""
    return np.exp((p * (np.log(p) - np.log(p.mean(axis=0)))).sum(axis=1).mean())


def random_p(num_frames, *, seed, classes=7):
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), num_frames) + 1e-12


def test_two_classes_seen_equally_often_and_surely_score_two():
    assert score([[1, 0], [0, 1]]) == pytest.approx(2)
    assert score([[1, 0, 0]] * 3, [[0, 0, 1]] * 3) == pytest.approx(2)


def test_pictures_that_say_nothing_score_one():
    assert score([[0.25] * 4] * 5) == pytest.approx(1)


def test_pictures_of_one_class_score_one():
    assert score([[0, 1, 0]] * 4) == pytest.approx(1)


def test_classes_count_by_how_often_they_are_seen():
    # p(y) = (3/4, 1/4): exp of the entropy of p(y), as every p(y|x) is sure.
    expected = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert score([[1, 0]] * 3, [[0, 1]]) == pytest.approx(expected)


def test_the_score_of_a_set_is_that_of_all_its_frames_together():
    stories = [random_p(n, seed=n) for n in (3, 8, 5)]
    assert score(*stories) == pytest.approx(score_by_definition(np.concatenate(stories)), rel=1e-6)
    assert score(*stories) != pytest.approx(np.mean([score(p) for p in stories]), rel=0.01)


def test_a_storys_file_stays_small():
    payload = payload_of(np.full((40, 1000), 1e-3))
    assert payload["num_frames"] == 40
    assert payload["sum_p_log_p"] == pytest.approx(40 * np.log(1e-3))
    assert len(payload["sum_p"]) < 5400


def test_the_interval_resamples_stories_and_scores_each_set_anew():
    stories = [random_p(4 + seed, seed=seed) for seed in range(6)]
    draws = np.random.default_rng(6).integers(6, size=(300, 6))  # the draws of the scorecard
    scores = [score_by_definition(np.concatenate([stories[i] for i in draw])) for draw in draws]
    low, high = np.percentile(scores, [2.5, 97.5])
    found = bootstrap_interval([payload_of(p) for p in stories], 300, INCEPTION_SCORE)
    assert found["mean"] == pytest.approx(score_by_definition(np.concatenate(stories)), abs=1e-4)
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=1e-4)


def test_a_difference_scores_both_sets_on_the_same_stories():
    first = [random_p(5, seed=seed) for seed in range(6)]
    second = [random_p(5, seed=100 + seed) for seed in range(6)]
    gaps = [
        score_by_definition(np.concatenate([first[i] for i in draw]))
        - score_by_definition(np.concatenate([second[i] for i in draw]))
        for draw in np.random.default_rng(6).integers(6, size=(300, 6))
    ]
    pairs = [(payload_of(a), payload_of(b)) for a, b in zip(first, second, strict=True)]
    found = difference_interval(pairs, 300, INCEPTION_SCORE)
    assert (found["low"], found["high"]) == pytest.approx(
        tuple(np.percentile(gaps, [2.5, 97.5])), abs=1e-4
    )


class Alternating:
    """Sees class 0 in dark frames and class 1 in bright ones."""

    def probabilities(self, pictures):
        return np.stack([np.eye(3)[int(picture.mean() > 127)] for picture in pictures])


def test_a_judge_reads_evenly_chosen_frames():
    frames = np.zeros((10, 4, 4, 3), np.uint8)
    frames[5:] = 255
    payload = InceptionJudge(Alternating(), frames_per_shot=4).payload([FilmedShot(frames, (0,))])
    assert payload["num_frames"] == 4
    assert payload["sum_p_log_p"] == 0
    assert INCEPTION_SCORE.row(payload)[2:].tolist() == [2, 2, 0]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """torchvision's network with random weights, and its file as torchvision saves it."""
    net = random_inception()
    path = tmp_path_factory.mktemp("inception") / "inception_v3.pth"
    torch.save(net.state_dict(), path)
    yield net, path
    path.unlink()  # 100 MB


def test_the_file_gives_what_torchvisions_own_path_gives(network):
    """Theirs goes from 0..1 by ImageNet's mean and deviation and back to -1..1 in the network."""
    net, path = network
    rng = np.random.default_rng(4)
    pictures = [rng.integers(0, top, (299, 299, 3), dtype=np.uint8) for top in (40, 256)]
    pixels = torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p in pictures]) / 255
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    with torch.no_grad():
        expected = net((pixels - mean[:, None, None]) / deviation[:, None, None])
    p = InceptionV3.load(path).probabilities(pictures)
    assert np.allclose(np.log(p), expected.log_softmax(-1).numpy(), atol=1e-3)
    assert np.abs(np.log(p[0]) - np.log(p[1])).max() > 0.1  # what an error must not hide in
    judge = InceptionJudge.load(InceptionConfig(weights=str(path)), device="cpu")
    assert judge.payload([FilmedShot(np.stack(pictures), (0,))]) == payload_of(p)


def test_pictures_of_any_size_are_shown_whole():
    """A wide picture is squashed, not cropped; black is -1 and white 1."""
    wide = np.zeros((48, 96, 3), np.uint8)
    wide[:, 84:] = 255  # the last eighth
    pixels = prepared(wide)
    assert pixels.shape == (1, 3, 299, 299)
    assert pixels[..., :255].max() == -1
    assert pixels[..., -30:].min() == 1


def test_other_networks_are_refused(tmp_path):
    fid = {"fc.weight": torch.zeros(1008, 2), "fc.bias": torch.zeros(1008)}
    torch.save(fid, tmp_path / "fid.pth")
    with pytest.raises(CheckpointError, match=r"has 1008 classes, but .* has 1000"):
        InceptionV3.load(tmp_path / "fid.pth")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match=r"has no classes"):
        InceptionV3.load(tmp_path / "none.pth")
    torch.save({"fc.weight": torch.zeros(1000, 2048)}, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match="Mixed_5b"):
        InceptionV3.load(tmp_path / "part.pth")


def test_without_a_path_there_is_no_judge():
    assert InceptionJudge.load(InceptionConfig()) is None
