"""Writes docs/config.md from the configuration models: `python -m cluster.config_docs`.

With `--check` it writes nothing and fails when the page is stale.
"""

from __future__ import annotations

import enum
import sys
import types
import typing
from pathlib import Path
from typing import Any

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

PAGE = Path(__file__).resolve().parent.parent / "docs" / "config.md"
HEAD = """# Configuration

Generated from the models by `make docs`; do not edit.

A configuration is laid together from a profile (`--profile NAME`, `cluster/profiles/`), a YAML
file (`--config FILE`) and overrides (`--set section.key=value`, repeatable), in this order.
An unknown key is an error. Secrets never stand here: they come from the environment.
"""
BOUNDS = (
    (annotated_types.Ge, "ge", "≥ {}"),
    (annotated_types.Gt, "gt", "> {}"),
    (annotated_types.Le, "le", "≤ {}"),
    (annotated_types.Lt, "lt", "< {}"),
    (annotated_types.MinLen, "min_length", "length ≥ {}"),
    (annotated_types.MaxLen, "max_length", "length ≤ {}"),
)


def render() -> str:
    """The whole page."""
    from cluster.config import FilmWeaverConfig

    parts = [HEAD]
    for name, field in FilmWeaverConfig.model_fields.items():
        parts.append(f"\n## {name}\n\n{field.description}\n")
        parts.extend(_section(name, _model_of(field.annotation)))
    return "".join(parts)


def _section(path: str, model: type[BaseModel] | None) -> list[str]:
    """The table of one model, then the tables of the models inside it."""
    if model is None:
        return []
    rows = ["\n| key | type | default | bounds | meaning |\n|---|---|---|---|---|\n"]
    inner: list[str] = []
    own_first = sorted(model.model_fields.items(), key=lambda f: f[0] not in model.__annotations__)
    for name, field in own_first:
        nested = _model_of(field.annotation)
        default = "" if nested is not None or field.is_required() else _code(_default(field))
        rows.append(
            f"| `{path}.{name}` | {_type_words(field.annotation)} | {default} |"
            f" {_bounds(field)} | {_cell(field.description or '')} |\n"
        )
        if nested is not None:
            inner.append(f"\n### {path}.{name}\n\n{_cell(nested.__doc__ or '')}\n")
            inner.extend(_section(f"{path}.{name}", nested))
    return [*rows, *inner]


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """The configuration model inside an annotation (also inside `X | None` and `tuple[X, ...]`)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in typing.get_args(annotation):
        found = _model_of(argument)
        if found is not None:
            return found
    return None


def _default(field: FieldInfo) -> Any:
    value = field.get_default(call_default_factory=True)
    return str(value) if isinstance(value, Path) else value


def _type_words(annotation: Any) -> str:
    """The type as a reader of YAML thinks of it."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return " or ".join(f"`{argument}`" for argument in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_words(argument) for argument in arguments)
    if origin is typing.Annotated:
        return _type_words(arguments[0])
    if origin in (list, tuple):
        inner = [argument for argument in arguments if argument is not Ellipsis]
        return "list of " + " and ".join(dict.fromkeys(_type_words(a) for a in inner))
    if origin is dict:
        return f"map of {_type_words(arguments[0])} to {_type_words(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(f"`{member.value}`" for member in annotation)
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section, below"
    names = {str: "text", int: "integer", float: "number", bool: "true/false", Path: "path"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _bounds(field: FieldInfo) -> str:
    return ", ".join(
        words.format(f"{getattr(rule, attribute)}")
        for rule in field.metadata
        for kind, attribute, words in BOUNDS
        if isinstance(rule, kind) and getattr(rule, attribute) is not None
    )


def _code(value: Any) -> str:
    if value is None:
        return "null"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{_cell(text)}`" if text else "empty"


def _cell(text: str) -> str:
    """Text that does not break a table: one line, bars escaped."""
    return " ".join(text.split()).replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it; return the exit code."""
    page = render()
    if "--check" in arguments:
        fresh = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page
        if not fresh:
            print(f"{PAGE.name} is stale: run `make docs`.", file=sys.stderr)
        return 0 if fresh else 1
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
