"""Reading YAML: what PyYAML cannot make sense of is told in one sentence."""

from pathlib import Path

import pytest

from fw_model.config import apply_overrides, load_yaml
from fw_model.errors import ConfigError

FAULTS = [
    ("2024-99-99", "month must be in 1..12"),
    ("!!float ''", "put text in quotes"),
    ("!!bool perhaps", "perhaps"),
    ("[" * 5000, "nested too deeply"),
    ("[1", "expected"),
]


@pytest.mark.parametrize(("value", "says"), FAULTS)
def test_a_file_with_a_value_that_is_no_yaml_is_named(
    value: str, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "story.yaml"
    path.write_text(f"title: {value}\n")
    with pytest.raises(ConfigError, match=says) as caught:
        load_yaml(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "says"), FAULTS)
def test_an_override_with_a_value_that_is_no_yaml_is_named(value: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        apply_overrides({}, [f"model.path={value}"])
    assert "model.path" in str(caught.value) and len(str(caught.value)) < 300
