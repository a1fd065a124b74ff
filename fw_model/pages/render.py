"""Rendering a page from the caller's template and the shared layout.

A template starts with `{% extends "layout.html" %}` and fills the blocks `title` and `content`, and
`style` for its own rules. The page is one file: the stylesheet is embedded, and
`{{ jpeg | data_uri("image/jpeg") }}` embeds pictures and films. Values are escaped; a missing one
is an error.
"""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined

FOLDER = Path(__file__).parent


def render_page(template: Path, **values: object) -> str:
    """Return the HTML page that the file `template` renders from `values`."""
    loader = ChoiceLoader([FileSystemLoader(template.parent), FileSystemLoader(FOLDER)])
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = data_uri
    return environment.get_template(template.name).render(**values)


def data_uri(content: bytes | Path, media_type: str) -> str:
    """Return `content`, or the file at that path, as a data URI."""
    data = content.read_bytes() if isinstance(content, Path) else content
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
