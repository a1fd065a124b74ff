"""docs/openapi.json describes the app, and the app's problems are in it."""

import json

from serve.http.openapi import FILE, document


def test_the_checked_in_description_is_that_of_the_app():
    assert FILE.read_text(encoding="utf-8") == document(), "run `python -m serve.http.openapi`"


def test_every_route_declares_its_problems_and_none_that_is_never_sent():
    description = json.loads(document())
    assert "HTTPValidationError" not in description["components"]["schemas"]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            problem = operation["responses"]["503"]["content"]
            assert list(problem) == ["application/problem+json"], (path, method)
