"""Rendering a page: a template of the caller's, laid into the shared layout.

A template begins with `{% extends "layout.html" %}` and fills the blocks `title` and `content`, and
`style` for rules that no other page needs. The page is one file: the stylesheet is inside it, and
`{{ jpeg | data_uri("image/jpeg") }}` puts pictures and films inside too. Values are escaped; a
missing one is an error.
"""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined

FOLDER = Path(__file__).parent


def render_page(template: Path, **values: object) -> str:
    """Return the HTML page that the template file `template` makes of `values`."""
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
    """Return `content`, or what the file at that path holds, as a data URI for a page."""
    data = content.read_bytes() if isinstance(content, Path) else content
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
