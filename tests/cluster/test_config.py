"""Profiles, overrides and the page generated from the models."""

from pathlib import Path

import pytest

from cluster.config import FilmWeaverConfig, load_config, profile_names
from cluster.config_docs import PAGE, render
from fw_model.errors import ConfigError


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_is_valid(name: str) -> None:
    assert isinstance(load_config(name), FilmWeaverConfig)


@pytest.mark.parametrize("name", profile_names())
def test_a_configuration_survives_being_written_down(name: str) -> None:
    config = load_config(name)
    assert FilmWeaverConfig.model_validate(config.model_dump(mode="json")) == config


def test_file_wins_over_profile_and_override_over_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("serving: {port: 1234}\ntraining: {seed: 5}\n")
    config = load_config("tiny", file, ["serving.port=4321"])
    assert config.serving.port == 4321
    assert config.training.seed == 5


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("serving.prot=1", "serving.prot"),
        ("serving.port=0", "serving.port"),
        ("serving.port", "section.key=value"),
        ("nothing.at.all=1", "nothing"),
    ],
)
def test_a_wrong_override_is_named(override: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config("tiny", None, [override])


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="tiny"):
        load_config("huge")


def test_every_setting_says_what_it_means() -> None:
    def walk(model: type, path: str) -> list[str]:
        from cluster.config_docs import _model_of

        silent = []
        for name, field in model.model_fields.items():
            inner = _model_of(field.annotation)
            if not field.description:
                silent.append(f"{path}.{name}")
            if inner is not None:
                silent += walk(inner, f"{path}.{name}")
        return silent

    assert walk(FilmWeaverConfig, "") == []


def test_the_generated_page_is_fresh() -> None:
    assert PAGE.exists() and PAGE.read_text(encoding="utf-8") == render(), "run `make docs`"
