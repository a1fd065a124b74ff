"""docs/openapi.json describes the app; the `client` fixture holds every response to it."""

import json

import pytest

from serve.http.openapi import FILE, document


def test_the_checked_in_description_is_that_of_the_app():
    assert FILE.read_text(encoding="utf-8") == document(), "run `python -m serve.http.openapi`"


def test_every_failure_is_declared_as_a_problem_and_fastapis_own_kind_is_not():
    description = json.loads(document())
    assert "HTTPValidationError" not in description["components"]["schemas"]
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            failures = {s: r for s, r in operation["responses"].items() if not s.startswith("2")}
            assert "default" in failures, (path, method)
            if path.startswith("/v1"):
                assert "503" in failures, (path, method)
            for response in failures.values():
                assert list(response["content"]) == ["application/problem+json"], (path, method)


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("post", "/v1/stories", "201 413 422 503 507 default"),
        ("post", "/v1/stories/{story_id}/shots", "202 404 413 422 429 503 507 default"),
        ("post", "/v1/stories/{story_id}/references", "201 404 409 413 422 503 507 default"),
        ("post", "/v1/shots/{shot_id}/extend", "202 404 409 413 422 429 503 507 default"),
        ("get", "/v1/jobs/{job_id}", "200 404 503 default"),
        ("get", "/v1/stories/{story_id}/video.mp4", "200 206 404 409 503 507 default"),
    ],
)
def test_a_route_declares_the_statuses_that_it_can_answer_with(method, path, statuses):
    operation = json.loads(document())["paths"][path][method]
    assert " ".join(sorted(operation["responses"])) == statuses


def test_media_types_are_declared():
    paths = json.loads(document())["paths"]
    for path, media_type in (
        ("/v1/stories/{story_id}/video.mp4", "video/mp4"),
        ("/v1/shots/{shot_id}/video.mp4", "video/mp4"),
        ("/v1/keyframes/{keyframe_id}/image", "image/png"),
        ("/v1/references/{reference_id}/image", "image/png"),
        ("/v1/stories/{story_id}/events", "text/event-stream"),
    ):
        assert list(paths[path]["get"]["responses"]["200"]["content"]) == [media_type]
