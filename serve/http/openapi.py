"""Writes docs/openapi.json, the description of the HTTP API: `python -m serve.http.openapi`."""

from __future__ import annotations

import json
from pathlib import Path

from serve.http.api import routed_app

FILE = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"


def document() -> str:
    """The description as JSON text, the same on every machine."""
    return json.dumps(routed_app().openapi(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
