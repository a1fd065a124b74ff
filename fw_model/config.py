"""One configuration system: frozen pydantic models, loaded from YAML and dotted overrides.

Each part of the project defines its own model next to the code that reads it; this file only
knows how to load, override and validate one.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fw_model.errors import ConfigError, shown

ModelT = TypeVar("ModelT", bound=BaseModel)

# PyYAML does not wrap the errors of dates, numbers and deep nesting.
_YAML_ERRORS = (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


class StrictModel(BaseModel):
    """A configuration section: immutable; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping; ConfigError names the file, the line and the problem."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read {path}: {_reason(error)}.") from error
    try:
        tree = yaml.safe_load(text)
    except _YAML_ERRORS as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise ConfigError(f"{path} is not valid YAML{where}: {_problem(error)}.") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of keys, not a {type(tree).__name__}.")
    return tree


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` updated with `over`; nested mappings merge, everything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def apply_overrides(tree: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Return `tree` with `a.b=value` overrides applied; values are parsed as YAML."""
    for override in overrides:
        dotted, equals, value = override.partition("=")
        keys = dotted.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"Override {override!r} must look like section.key=value.")
        try:
            leaf: Any = yaml.safe_load(value) if value else ""
        except _YAML_ERRORS as error:
            raise ConfigError(
                f"The value in override {shown(override)} is not valid YAML: {_problem(error)}."
            ) from error
        for key in reversed(keys):
            leaf = {key: leaf}
        tree = merge(tree, leaf)
    return tree


def validate(model: type[ModelT], tree: dict[str, Any], where: str) -> ModelT:
    """Build `model` from `tree`; ConfigError names the key, the value and the broken rule."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top level)"
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"Unknown key {key!r} in {where}; check its spelling.") from error
        value = shown(first.get("input"))
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ConfigError(f"{key!r} in {where}: {first['msg']}, got {value}.{more}") from error


def _problem(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.YAMLError):
        return getattr(error, "problem", None) or "it cannot be parsed"
    return f"a value in it is impossible ({error}); put text in quotes"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
