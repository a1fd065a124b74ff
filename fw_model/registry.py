"""Plug-in points: a `kind` from a table, or `module:Name` from outside this project."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from fw_model.errors import ConfigError


def resolve(kind: str, table: Mapping[str, str], what: str) -> Any:
    """Return the object named by `kind`.

    `table` maps short kinds to "module:Name"; a `kind` with a colon is imported as given. Imports
    are lazy, so a kind that is never chosen costs nothing. Raises ConfigError.
    """
    target = kind if ":" in kind else table.get(kind)
    if target is None:
        known = ", ".join(sorted(table))
        raise ConfigError(
            f"Unknown {what} kind {kind!r}; choose one of {known}, or name code as module:Name."
        )
    module_name, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise ConfigError(f"{what} {kind!r}: there is no module {module_name!r}.") from error
    except AttributeError as error:
        raise ConfigError(f"{what} {kind!r}: {module_name} has no {attribute!r}.") from error
