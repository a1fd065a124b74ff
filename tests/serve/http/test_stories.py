"""A story over HTTP, from the first shot to the film, with workers but without Ray."""

import io

import av
import numpy as np


def read_film(content):
    with av.open(io.BytesIO(content)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def test_a_story_passes_through_all_four_modes(client, story, add_shot, work_off):
    first = add_shot("a bear walks in the snow", 1)
    client.post(
        f"/v1/shots/{first['shot_id']}/extend", json={"prompt": "it waves", "num_chunks": 1}
    )
    second = add_shot("the bear sits by the sea", 2)
    assert work_off() == 4
    memory = client.get(f"/v1/shots/{first['shot_id']}/memory").json()
    assert [s["chunk_modes"] for s in memory["segments"]] == [
        ["first_shot"],
        ["extend_first_shot"],
    ]
    memory = client.get(f"/v1/shots/{second['shot_id']}/memory").json()
    assert memory["segments"][0]["chunk_modes"] == ["new_shot", "extend_new_shot"]
    retrieved = memory["segments"][0]["retrieved"]
    assert [r["rank"] for r in retrieved] == [0, 1]
    assert retrieved[0]["score"] >= retrieved[1]["score"]
    assert {r["shot_index"] for r in retrieved} == {0}
    image = client.get(retrieved[0]["image_url"])
    assert image.headers["content-type"] == "image/png"
    whole = client.get(f"/v1/stories/{story['story_id']}").json()
    assert [s["num_frames"] for s in whole["shots"]] == [21, 21]
    assert whole["jobs"] == []


def test_the_film_holds_every_frame_of_every_committed_chunk(client, story, add_shot, work_off):
    add_shot("a bear walks", 3)
    add_shot("a cat jumps", 2)
    work_off()
    film = client.get(story["video_url"])
    assert film.status_code == 200
    assert film.headers["content-type"] == "video/mp4"
    assert read_film(film.content).shape == (33 + 21, 48, 64, 3)
    part = client.get(story["video_url"], headers={"Range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == film.content[10:20]


def test_frames_of_the_film_are_those_that_were_drawn(
    client, story, add_shot, make_worker, work_off
):
    from fake_generator import FakeGenerator

    generator = FakeGenerator()
    add_shot("a bear walks", 2)
    work_off(make_worker(generator=generator))
    drawn = [FakeGenerator().generate_chunk(request).frames for request in generator.requests]
    film = read_film(client.get(story["video_url"]).content)
    error = np.abs(film.astype(int) - np.concatenate(drawn).astype(int)).mean()
    shuffled = np.abs(film[::-1].astype(int) - np.concatenate(drawn).astype(int)).mean()
    assert error < shuffled / 2


def test_a_film_without_a_finished_chunk_is_a_conflict(client, story, add_shot):
    add_shot()
    answer = client.get(story["video_url"])
    assert answer.status_code == 409
    assert "wait" in answer.json()["detail"]


def test_a_reference_is_drawn_on_with_its_weight(client, story, add_shot, work_off, png):
    url = f"/v1/stories/{story['story_id']}/references"
    answer = client.post(url, files={"image": png}, data={"name": "hero", "weight": "2"})
    assert answer.status_code == 201, answer.text
    job = add_shot("nothing like it", 1, references=[{"name": "hero", "weight": 0.5}])
    work_off()
    [retrieved] = client.get(f"/v1/shots/{job['shot_id']}/memory").json()["segments"][0][
        "retrieved"
    ]
    assert retrieved["reference"] == "hero"
    assert retrieved["weight"] == 0.5
    assert retrieved["pinned"]
    assert client.get(answer.json()["image_url"]).content[:4] == b"\x89PNG"


def test_regenerating_flags_later_shots_stale_and_keeps_the_old_version_meanwhile(
    client, story, add_shot, make_worker, work_off
):
    first, second = add_shot("a bear walks", 2), add_shot("a bear sits", 1)
    work_off()
    before = client.get(story["video_url"]).content
    job = client.post(f"/v1/shots/{first['shot_id']}/regenerate").json()
    make_worker().step()
    assert client.get(story["video_url"]).content == before
    work_off()
    assert client.get(job["url"]).json()["state"] == "done"
    shots = client.get(f"/v1/stories/{story['story_id']}").json()["shots"]
    assert [(s["version"], s["stale"]) for s in shots] == [(1, False), (0, True)]
    assert client.get(story["video_url"]).content != before
    client.post(f"/v1/shots/{second['shot_id']}/regenerate")
    work_off()
    shots = client.get(f"/v1/stories/{story['story_id']}").json()["shots"]
    assert [s["stale"] for s in shots] == [False, False]


def test_events_tell_the_story_and_resume_where_a_client_left(client, story, add_shot, work_off):
    add_shot("a bear walks", 2)
    work_off()
    url = f"/v1/stories/{story['story_id']}/events?follow=false"
    whole = client.get(url).text
    kinds = [line[7:] for line in whole.splitlines() if line.startswith("event: ")]
    assert kinds == [
        "story.created", "job.queued", "job.started", "chunk.started", "chunk.done",
        "chunk.started", "chunk.done", "job.done",
    ]  # fmt: skip
    tail = client.get(url, headers={"Last-Event-ID": "6"}).text
    ids = [line[4:] for line in tail.splitlines() if line.startswith("id: ")]
    assert ids == ["7", "8"]
    assert client.get(url, headers={"Last-Event-ID": "x"}).status_code == 422


def test_a_deleted_story_is_gone_and_its_work_stops(client, story, add_shot, work_off):
    job = add_shot()
    assert client.delete(f"/v1/stories/{story['story_id']}").status_code == 204
    assert client.get(f"/v1/stories/{story['story_id']}").status_code == 404
    assert client.get(job["url"]).status_code == 404
    assert work_off() == 0


def test_stories_are_listed_newest_first_in_pages(client):
    ids = [client.post("/v1/stories", json={"title": f"{i}"}).json()["story_id"] for i in range(5)]
    page = client.get("/v1/stories?limit=3").json()
    rest = client.get(f"/v1/stories?limit=3&after={page['next']}").json()
    assert [s["story_id"] for s in page["stories"] + rest["stories"]] == ids[::-1]
    assert rest["next"] is None
