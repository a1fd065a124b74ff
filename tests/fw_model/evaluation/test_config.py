"""Which stories are filmed when nobody says, and what the settings of suites refuse."""

import pytest
from pydantic import ValidationError

from fw_model.errors import ConfigError
from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.stories.scenes import packaged_scenes


@pytest.mark.parametrize(
    ("suite", "seeds"),
    [
        ("toyfilms", range(1000000, 1000010)),
        ("scenes20x5", range(20)),
        ("my.module:stories", range(1000000, 1000010)),
    ],
)
def test_each_suite_has_seeds_of_its_own(suite, seeds):
    assert EvaluationConfig(suite=suite).story_seeds == seeds
    assert EvaluationConfig(suite=suite, seeds="3:5").story_seeds == range(3, 5)


def test_the_seeds_of_the_packaged_scenes_are_all_of_them():
    assert EvaluationConfig(suite="scenes20x5").story_seeds == range(len(packaged_scenes().scenes))


def test_how_many_stories_a_file_has_is_not_guessed():
    config = EvaluationConfig(suite="file", suite_path="mine.json")
    with pytest.raises(ConfigError, match=r"mine\.json"):
        _ = config.story_seeds


@pytest.mark.parametrize("settings", [{"suite": "file"}, {"suite_path": "mine.json"}])
def test_a_file_and_its_suite_go_together(settings):
    with pytest.raises(ValidationError, match="go together"):
        EvaluationConfig(**settings)


@pytest.mark.parametrize("seeds", ["5", "5:5", "6:5", "-1:5", "a:b", ""])
def test_seeds_that_are_no_range_are_refused(seeds):
    with pytest.raises(ValidationError, match="FIRST:LAST"):
        EvaluationConfig(seeds=seeds)
