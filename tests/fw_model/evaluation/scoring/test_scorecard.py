"""Intervals over stories, the scorecard's format, and the page."""

import numpy as np
import pytest

from fw_model.config import validate
from fw_model.errors import ConfigError
from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.metrics.inception import payload_of
from fw_model.evaluation.report.films import StoryFilms, film_strip
from fw_model.evaluation.report.page import render_report
from fw_model.evaluation.report.table import table_rows
from fw_model.evaluation.scoring.aggregates import MEAN
from fw_model.evaluation.scoring.bootstrap import (
    bootstrap_interval,
    difference_interval,
    median_interval,
)
from fw_model.evaluation.scoring.scorecard import build_scorecard
from fw_model.evaluation.scoring.story_score import METRICS
from fw_model.evaluation.variants import VARIANTS


def scored(value, ends=None, jumps=None, **metrics):
    return {
        "metrics": {**dict.fromkeys(METRICS), "figure_accuracy": value, **metrics},
        "details": {
            "light_accuracy": 1.0,
            "flicker": 0.1,
            "accuracy_by_chunk": [1.0, value] if ends is None else ends,
            "usual_and_border_jump": jumps,
            "hue_errors_deg": [10.0, 30.0],
        },
    }


@pytest.fixture(scope="module")
def card():
    full = {seed: scored(0.9 + 0.01 * (seed % 3), hue_error_deg=12.0) for seed in range(30)}
    without = {seed: scored(0.5 + 0.02 * (seed % 5), hue_error_deg=60.0) for seed in range(30)}
    truth = {seed: scored(1.0) for seed in range(30)}
    scores = {"full": full, "without_shot_cache": without}
    about = {"toy_judge": {"held_out": {"place_accuracy": 0.99}}, "settings": {"seeds": "0:30"}}
    return build_scorecard(scores, truth, num_bootstrap=500, about=about)


def test_an_interval_holds_its_mean_and_narrows_with_more_stories():
    rng = np.random.default_rng(0)
    few, many = (bootstrap_interval(rng.normal(size=n).tolist(), 1000, MEAN) for n in (10, 1000))
    for interval in (few, many):
        assert interval["low"] < interval["mean"] < interval["high"]
    assert many["high"] - many["low"] < (few["high"] - few["low"]) / 4


def test_95_of_100_intervals_hold_the_true_mean():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        interval = bootstrap_interval(rng.normal(size=40).tolist(), 400, MEAN)
        held += interval["low"] <= 0 <= interval["high"]
    assert 0.88 <= held / 200 <= 0.99


def test_the_same_values_give_the_same_interval():
    values = [0.1, 0.5, 0.7]
    assert bootstrap_interval(values, 300, MEAN) == bootstrap_interval(values, 300, MEAN)
    assert bootstrap_interval([], 300, MEAN) is None


def test_every_variant_and_metric_is_there_and_null_where_not_measured(card):
    assert list(card["variants"]) == list(VARIANTS)
    assert all(list(metrics) == list(METRICS) for metrics in card["variants"].values())
    full = card["variants"]["full"]
    assert set(full["figure_accuracy"]) == {"mean", "low", "high"}
    assert full["aesthetic"] is None
    assert not any(card["variants"]["without_augmentation"].values())


def test_differences_are_taken_story_by_story():
    full = {seed: scored(1.0, hue_error_deg=float(seed)) for seed in range(20)}
    other = {seed: scored(1.0, hue_error_deg=seed + 48.0) for seed in range(5, 30)}
    other[7] = scored(1.0, hue_error_deg=None)  # not measured: left out of both
    card = build_scorecard(
        {"full": full, "without_shot_cache": other}, {}, num_bootstrap=200, about={}
    )
    gap = card["full_minus"]["without_shot_cache"]["hue_error_deg"]
    assert gap == {"mean": -48.0, "low": -48.0, "high": -48.0}


def test_a_difference_of_means_resamples_whole_stories():
    pairs = [(2.0 + seed, float(seed)) for seed in range(9)]
    assert difference_interval(pairs, 300, MEAN) == {"mean": 2.0, "low": 2.0, "high": 2.0}
    assert difference_interval([], 300, MEAN) is None


def sure(*classes):
    """A story whose frames are surely of these classes, of three."""
    return payload_of(np.eye(3)[list(classes)])


def test_the_inception_score_is_of_the_set_and_not_a_mean_over_stories():
    full = {seed: scored(1.0, inception=sure(seed % 2)) for seed in range(20)}
    dull = {seed: scored(1.0, inception=sure(0)) for seed in range(20)}
    card = build_scorecard(
        {"full": full, "independent": dull}, {}, num_bootstrap=300, about={"settings": {}}
    )
    found = card["variants"]["full"]["inception"]
    assert found["mean"] == 2.0  # every single story scores 1
    assert 1.5 < found["low"] < found["high"] <= 2.0
    assert card["variants"]["independent"]["inception"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    gap = card["full_minus"]["independent"]["inception"]
    assert gap == {name: pytest.approx(found[name] - 1) for name in ("mean", "low", "high")}
    assert card["truth"]["inception"] is None
    row = next(row for row in table_rows(card) if row[0] == "inception")
    assert row[1].startswith("2 [") and row[2] == "1 [1, 1]"


def test_stories_that_were_not_measured_leave_the_inception_score_of_the_others():
    full = {seed: scored(1.0, inception=sure(0, 1) if seed < 2 else None) for seed in range(3)}
    card = build_scorecard({"full": full}, {}, num_bootstrap=300, about={"settings": {}})
    assert card["variants"]["full"]["inception"]["mean"] == 2.0


def test_medians_are_over_all_comparisons(card):
    found = card["details"]["full"]["hue_error_median_deg"]
    assert found == {"mean": 20.0, "low": 20.0, "high": 20.0}  # each story has 10 and 30
    assert card["details"]["full"]["num_hue_comparisons"] == 60


def test_a_median_is_of_all_values_of_the_stories_that_are_drawn():
    values = [[1.0, 2.0], [3.0, 4.0, 5.0], []]
    assert median_interval(values, 300)["mean"] == 3.0
    assert median_interval([[2.0], [4.0]], 300) == {"mean": 3.0, "low": 2.0, "high": 4.0}
    assert median_interval([[], []], 300) is None


def test_drift_and_border_jumps_are_ratios_of_all_stories_together():
    # A mean of ratios would say 1.2 here: one poor story with a lucky end.
    ends = [[1 / 3, 1.0], [1.0, 0.6], [1.0, 0.6], [1.0, 0.6]]
    jumps = [(0.1, 1.0), (4.0, 4.0), (4.0, 4.0), None]
    full = {
        seed: scored(1.0, ends=e, jumps=j)
        for seed, (e, j) in enumerate(zip(ends, jumps, strict=True))
    }
    details = build_scorecard({"full": full}, {}, num_bootstrap=200, about={})["details"]["full"]
    assert details["drift_ratio"]["mean"] == pytest.approx(2.8 / (10 / 3), abs=1e-4)
    assert details["border_over_usual_jump"]["mean"] == pytest.approx(9.0 / 8.1, abs=1e-4)


def test_what_no_story_shows_at_first_has_no_drift():
    full = {seed: scored(1.0, ends=[0.0, 1.0]) for seed in range(3)}
    details = build_scorecard({"full": full}, {}, num_bootstrap=200, about={})["details"]["full"]
    assert details["drift_ratio"] is None
    assert details["border_over_usual_jump"] is None


def test_the_table_says_what_was_not_measured(card):
    header, *rows = table_rows(card)
    assert header == ["metric", "full", "without_shot_cache", "truth"]
    assert next(row for row in rows if row[0] == "aesthetic")[1:] == ["not measured"] * 3
    assert next(row for row in rows if row[0] == "figure_accuracy")[1].startswith("0.91 [")


def test_the_page_says_what_was_not_measured_and_draws_nothing_of_it(card):
    page = render_report(card, [])
    cell = '<td class="number muted">not measured</td>'
    assert "<td>aesthetic</td>" + cell * 3 in page
    assert "<figcaption>aesthetic" not in page
    assert "<figcaption>figure_accuracy" in page


def test_the_page_stands_alone(card):
    frames = [np.zeros((9, 16, 16, 3), np.uint8)] * 2
    strips = [StoryFilms("Story 1", ["a <bear>", "a cat"], {"full": film_strip(frames)})]
    page = render_report(card, strips)
    assert "data:image/jpeg;base64," in page
    assert "a &lt;bear&gt;" in page
    assert "without_shot_cache" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize(
    "changes",
    [
        {"seeds": "5:5"},
        {"seeds": "seven"},
        {"variants": ["fulll"]},
        {"variants": []},
        {"variants": ["full", "full"]},
        {"variants": ["without_augmentation"]},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes):
    with pytest.raises(ConfigError):
        validate(EvaluationConfig, changes, "here")
