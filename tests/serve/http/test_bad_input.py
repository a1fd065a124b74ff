"""What is asked wrongly is answered with one sentence, and leaves nothing behind."""

import io

import pytest
from PIL import Image
from sqlalchemy import func, select

from serve.stores import server_binding, stories
from serve.stores.database import Database
from serve.stores.tables import Job, Reference


def is_a_problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert 10 < len(body["detail"]) < 300
    return body["detail"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"prompt": "x" * 10_000}, "4000"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": "   "}, "blank"),
        ({"prompt": "a bear", "num_chunks": 0}, "num_chunks"),
        ({"prompt": "a bear", "num_chunks": -1}, "num_chunks"),
        ({"prompt": "a bear", "num_chunks": 1_000_000}, "num_chunks"),
        ({"prompt": "a bear", "num_chunks": "two"}, "num_chunks"),
        ({"prompt": "a bear", "num_chunks": True}, "num_chunks"),
        ({"prompt": "a bear", "colour": "red"}, "colour"),
        ({"prompt": 7}, "prompt"),
        ({}, "prompt"),
        ({"prompt": "a bear", "references": [{"weight": 1}]}, "reference"),
        ({"prompt": "a bear", "references": [{"name": "a", "weight": 0}]}, "weight"),
        ({"prompt": "a bear", "guidance_scale": -1}, "guidance_scale"),
    ],
)
def test_a_wrong_shot_is_refused(client, story, context, body, words):
    answer = client.post(f"/v1/stories/{story['story_id']}/shots", json=body)
    assert words in is_a_problem(answer, 422)
    with context.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Job)) == 0


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'{"prompt": NaN}', b"\xff\xfe"])
def test_a_body_that_is_no_object_is_refused(client, story, body):
    url = f"/v1/stories/{story['story_id']}/shots"
    answer = client.post(url, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    is_a_problem(answer, answer.status_code)


@pytest.mark.parametrize(
    "body",
    [
        {"title": ""},
        {"title": "x" * 201},
        {"seed": -1},
        {"seed": 2**63},
        {"width": 64, "height": 47},
        {"width": 100_000, "height": 64},
        {"fps": 24},
    ],
)
def test_a_wrong_story_is_refused(client, body):
    is_a_problem(client.post("/v1/stories", json=body), 422)
    assert client.get("/v1/stories").json()["stories"] == []


def test_a_size_that_the_model_cannot_draw_is_refused(client, context):
    size = {"width": 64, "height": 56}
    assert client.post("/v1/stories", json=size).status_code == 201, "no generator has said yet"
    with context.database.writing() as session:
        server_binding.record(session, server_binding.FRAME_MULTIPLE, "16")
    detail = is_a_problem(client.post("/v1/stories", json=size), 422)
    assert "64x56" in detail
    assert "multiples of 16" in detail
    assert client.post("/v1/stories", json={"width": 64, "height": 48}).status_code == 201


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/stories/story_none"),
        ("DELETE", "/v1/stories/story_none"),
        ("POST", "/v1/stories/story_none/shots"),
        ("GET", "/v1/stories/story_none/events"),
        ("GET", "/v1/stories/story_none/video.mp4"),
        ("GET", "/v1/stories?after=story_none"),
        ("GET", "/v1/shots/shot_none"),
        ("POST", "/v1/shots/shot_none/extend"),
        ("POST", "/v1/shots/shot_none/regenerate"),
        ("GET", "/v1/shots/shot_none/memory"),
        ("GET", "/v1/shots/shot_none/video.mp4"),
        ("GET", "/v1/jobs/job_none"),
        ("POST", "/v1/jobs/job_none/cancel"),
        ("GET", "/v1/keyframes/keyframe_none/image"),
        ("GET", "/v1/references/reference_none/image"),
        ("GET", "/v1/nothing"),
    ],
)
def test_what_does_not_exist_is_not_found(client, method, path):
    has_prompt = path.endswith(("shots", "extend"))
    answer = client.request(method, path, json={"prompt": "a bear"} if has_prompt else None)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def animation():
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def bomb():
    buffer = io.BytesIO()
    Image.new("1", (8000, 5000)).save(buffer, "PNG")
    return buffer.getvalue()


def gif():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "GIF")
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"no image", animation(), bomb(), gif()])
def test_a_reference_that_is_no_plain_image_is_refused(client, story, context, content):
    url = f"/v1/stories/{story['story_id']}/references"
    answer = client.post(url, files={"image": ("a.png", content)}, data={"name": "hero"})
    is_a_problem(answer, 422)
    with context.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Reference)) == 0


def test_a_truncated_image_is_refused(client, story, png):
    url = f"/v1/stories/{story['story_id']}/references"
    answer = client.post(url, files={"image": png[: len(png) // 2]}, data={"name": "hero"})
    is_a_problem(answer, 422)


def test_an_image_above_the_limit_is_refused(client, story, png, context, monkeypatch):
    limits = context.config.limits.model_copy(update={"max_image_bytes": 1024})
    config = context.config.model_copy(update={"limits": limits})
    monkeypatch.setitem(context.__dict__, "config", config)
    url = f"/v1/stories/{story['story_id']}/references"
    assert len(png) > 1024
    is_a_problem(client.post(url, files={"image": png}, data={"name": "hero"}), 413)


@pytest.mark.parametrize(
    "fields", [{}, {"name": ""}, {"name": "a", "weight": "0"}, {"name": "a", "weight": "nan"}]
)
def test_a_reference_without_a_name_or_with_a_wrong_weight_is_refused(client, story, png, fields):
    url = f"/v1/stories/{story['story_id']}/references"
    is_a_problem(client.post(url, files={"image": png}, data=fields), 422)


def test_a_second_reference_of_one_name_is_a_conflict(client, story, png):
    url = f"/v1/stories/{story['story_id']}/references"
    assert client.post(url, files={"image": png}, data={"name": "hero"}).status_code == 201
    is_a_problem(client.post(url, files={"image": png}, data={"name": "hero"}), 409)


def test_a_shot_cannot_name_a_reference_of_another_story(client, story, png):
    other = client.post("/v1/stories", json={}).json()["story_id"]
    url = f"/v1/stories/{other}/references"
    reference = client.post(url, files={"image": png}, data={"name": "hero"}).json()
    body = {"prompt": "a bear", "references": [{"reference_id": reference["reference_id"]}]}
    is_a_problem(client.post(f"/v1/stories/{story['story_id']}/shots", json=body), 404)


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_above_the_limit_is_refused(client, announced):
    content = b'{"title": "' + b"x" * 2_000_000 + b'"}'
    stream = content if announced else (content[i : i + 65536] for i in range(0, 2_000_000, 65536))
    answer = client.post("/v1/stories", content=stream)
    is_a_problem(answer, 413)


def test_a_full_queue_says_when_to_ask_again(client, story, context, add_shot, monkeypatch):
    limits = context.config.limits.model_copy(update={"max_queued_jobs": 1})
    config = context.config.model_copy(update={"limits": limits})
    add_shot()
    monkeypatch.setitem(context.__dict__, "config", config)
    answer = client.post(f"/v1/stories/{story['story_id']}/shots", json={"prompt": "a bear"})
    is_a_problem(answer, 429)
    assert int(answer.headers["Retry-After"]) > 0


def test_a_full_disk_is_told_and_leaves_nothing(client, story, png, context, monkeypatch):
    import errno

    def full(_path, _content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(context.blobs, "_put_local", full)
    url = f"/v1/stories/{story['story_id']}/references"
    answer = client.post(url, files={"image": png}, data={"name": "hero"})
    assert "the disk is full" in is_a_problem(answer, 507)
    assert client.get(url).json() == []


def test_a_full_database_is_told_and_leaves_nothing(client, context):
    with context.database.writing() as session:
        pages = session.connection().exec_driver_sql("PRAGMA page_count").scalar_one()
    event_limit = f"PRAGMA max_page_count={pages}"
    with context.database._engine.connect() as connection:
        connection.exec_driver_sql(event_limit)
    made = client.get("/v1/stories").json()["stories"]
    answer = None
    for number in range(200):
        answer = client.post("/v1/stories", json={"title": f"{number} " + "x" * 190})
        if answer.status_code != 201:
            break
        made.append(answer.json())
    assert "full" in is_a_problem(answer, 507)
    listed = client.get("/v1/stories?limit=200").json()["stories"]
    assert len(listed) == len(made)


def test_readiness_waits_for_a_generator(client, make_worker):
    assert client.get("/healthz").json() == {"status": "ok"}
    is_a_problem(client.get("/readyz"), 503)
    make_worker().step()
    assert client.get("/readyz").json() == {"status": "ready", "num_generators": 1}


def test_a_database_that_stays_locked_is_told_as_unavailable(client, story, context, monkeypatch):
    monkeypatch.setattr("serve.stores.database.BUSY_TIMEOUT_S", 0.05)
    impatient = Database(context.database.url)
    monkeypatch.setitem(context.__dict__, "database", impatient)
    holder = Database(impatient.url)
    try:
        with holder.writing() as session:
            stories.get(session, story["story_id"])
            answer = client.post(f"/v1/stories/{story['story_id']}/shots", json={"prompt": "a"})
        assert "locked" in is_a_problem(answer, 503)
    finally:
        impatient.close()
        holder.close()
