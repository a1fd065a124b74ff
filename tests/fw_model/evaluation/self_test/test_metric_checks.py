"""Every measure is perfect on true films and gets worse with every level of its fault."""

import pytest

from fw_model.evaluation.judges.toy_judge import ToyJudge
from fw_model.evaluation.self_test.metric_checks import CHECKS, is_monotone, run_check
from pipelines.evaluation.true_films import true_films

# What the toy judge itself may miss on truth; measures of pixels alone are exact.
LEAST_ON_TRUTH = {
    "figure_accuracy": 0.9,
    "place_accuracy": 0.95,
    "scale_accuracy": 0.95,
    "action_accuracy": 0.75,
    "light_accuracy": 0.95,
    "joint_accuracy": 0.7,
    "motion_over_truth": 1.0,
    "drift_ratio": 0.97,
    "retrieval_return_accuracy": 1.0,
}
MOST_ON_TRUTH = {
    "hue_error_deg": 12.0,
    "border_jump_ratio": 1.25,
    "flicker": 0.0,
    "landmark_displacement": 0.02,
    "copy_paste": 1e-6,
}


@pytest.fixture(scope="module")
def films():
    return true_films(range(1_000_000, 1_000_006))


@pytest.fixture(scope="module")
def toy_judge():
    return ToyJudge.load()


@pytest.mark.parametrize("check", CHECKS, ids=[check.metric for check in CHECKS])
def test_truth_scores_perfectly_and_faults_cost(check, films, toy_judge):
    scores = run_check(check, films, toy_judge)
    if check.rises:
        assert scores[0] <= MOST_ON_TRUTH[check.metric]
    else:
        assert scores[0] >= LEAST_ON_TRUTH[check.metric]
    assert is_monotone(check, scores), scores
