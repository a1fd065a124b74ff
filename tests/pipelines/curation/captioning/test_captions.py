import json
from dataclasses import replace

import numpy as np
import pytest

from fw_model.errors import ConfigError
from fw_model.schemas.curated import CAPTIONS, CaptionReason
from pipelines.curation.analysis.keyframes import encode_jpeg
from pipelines.curation.captioners.base import (
    CaptionContext,
    Entity,
    SceneCaption,
    SceneView,
    ShotCaption,
    ShotView,
    make_captioner,
)
from pipelines.curation.captioners.offline import seen_sentences
from pipelines.curation.captioners.sidecar import sidecar_state
from pipelines.curation.captioning.caption_loop import CaptionLoop
from pipelines.curation.captioning.checks import check_rank, check_structure, complaints
from pipelines.curation.config import CaptionerConfig, ValidationConfig
from pipelines.curation.ids import keyframe_uri
from pipelines.storage.store import Store
from tests.pipelines.chat_server import ChatServer, answer
from tests.pipelines.curation.fake_embedder import FakeEmbedder
from tests.pipelines.curation.footage import scenery

EMBEDDER = FakeEmbedder()


def scene(store, *, num_shots=2, uri="/films/film.mp4"):
    """A scene whose shots have one keyframe each, written to `store`."""
    shots = []
    for i in range(num_shots):
        picture = scenery(i)
        sha256 = f"{i:02d}" + "0" * 62
        store.write(keyframe_uri(sha256), encode_jpeg(picture, 90))
        embedding = EMBEDDER.embed_images([picture]).numpy()[0]
        span = (20 * i, 20 * i + 20)
        shots.append(
            ShotView(f"s{i}", *span, 1.0, 2.0, 90.0, embedding, (20 * i,),
                     (keyframe_uri(sha256),), (sha256,))
        )  # fmt: skip
    return SceneView("scene", "video", uri, tuple(shots), store)


# The fake embedder says nothing of what a text shows.
UNRANKED = ValidationConfig(min_own_rank_margin=None)


def caption_loop(store, config, *, validation=UNRANKED):
    context = CaptionContext(config, store, EMBEDDER, validation)
    return CaptionLoop(make_captioner(context), context, config.concurrency)


def caption(store, config, **settings):
    (row,) = caption_loop(store, config, **settings).caption([scene(store)], {"run_id": "r"})
    return row


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "out"))


def test_the_offline_captioner_names_the_same_entity_in_every_shot(store):
    row = caption(store, CaptionerConfig(kind="offline"))
    again = caption(store, CaptionerConfig(kind="offline"))
    assert row["status"] == "captioned"
    assert [s["text"] for s in row["shots"]] == [s["text"] for s in again["shots"]]
    ids = {tuple(s["entity_ids"]) for s in row["shots"]}
    assert ids == {tuple(e["id"] for e in row["entities"])}
    assert set(row) <= set(CAPTIONS.names)


@pytest.mark.parametrize(
    ("seen", "sentences"),
    [
        ({}, []),
        ({"num_faces": 0, "read_text": (), "nsfw": 0.01}, []),
        ({"num_faces": 1}, ["One face is visible."]),
        ({"num_faces": 12}, ["12 faces are visible."]),
        ({"read_text": ("EXIT", 'to "Rome"')}, ["On-screen text: \"EXIT / to 'Rome'\"."]),
        ({"read_text": ("x" * 500,)}, [f'On-screen text: "{"x" * 120}...".']),
        ({"nsfw": 0.9}, ["The picture is explicit."]),
    ],
)
def test_the_offline_captioner_says_what_was_seen_and_only_that(store, seen, sentences):
    shot = scene(store).shots[0]
    assert seen_sentences(replace(shot, **seen)) == sentences


def test_a_sidecar_gives_the_shot_that_covers_most(store, tmp_path):
    described = {
        "shots": [
            {"start_frame": 0, "end_frame": 18, "prompt": "a bear walks in", "scale": "wide",
             "figures": [{"figure": 0, "kind": "bear", "hat": "cap", "prop": None}]},
            {"start_frame": 18, "end_frame": 40, "prompt": "a bear sits down", "scale": "close",
             "figures": [{"figure": 0, "kind": "bear", "hat": "cap", "prop": None}]},
        ]
    }  # fmt: skip
    (tmp_path / "film.json").write_text(json.dumps(described))
    view = scene(store, uri=str(tmp_path / "film.mp4"))
    (row,) = caption_loop(store, CaptionerConfig(kind="sidecar")).caption([view], {})
    assert [s["text"] for s in row["shots"]] == ["a bear walks in", "a bear sits down"]
    assert row["entities"] == [{"id": "e1", "name": "bear", "attributes": "cap", "kind": ""}]
    assert [s["framing"] for s in row["shots"]] == ["wide", "close"]


def test_a_video_without_its_sidecar_is_rejected_with_the_reason(store):
    row = caption(store, CaptionerConfig(kind="sidecar"))
    assert (row["status"], row["reason"], row["shots"]) == ("rejected", "no_sidecar", [])


def test_the_state_of_a_sidecar_tells_an_edited_one(tmp_path):
    film = str(tmp_path / "film.mp4")
    assert sidecar_state(film) == ""
    (tmp_path / "film.json").write_text("{}")
    before = sidecar_state(film)
    (tmp_path / "film.json").write_text('{"shots": []}')
    assert "" != before != sidecar_state(film)


GOOD = {
    "style": "cartoon",
    "entities": [{"id": "e1", "name": "the bear", "attributes": "brown, red cap"}],
    "shots": [
        {"shot": n, "text": f"The bear does thing number {n}.", "framing": "wide",
         "entity_ids": ["e1"]}
        for n in (1, 2)
    ],
}  # fmt: skip


class Endpoint(ChatServer):
    """A server that knows how a captioner is set to ask it."""

    def __init__(self) -> None:
        super().__init__(lambda n: answer(json.dumps(GOOD)))

    def config(self, **settings):
        return CaptionerConfig(
            kind="openai",
            base_url=self.base_url,
            max_retry_wait_s=0.01,
            usd_per_million_input_tokens=10.0,
            usd_per_million_output_tokens=100.0,
            **settings,
        )


@pytest.fixture
def endpoint():
    served = Endpoint()
    yield served
    served.close()


def test_one_request_describes_the_whole_scene(store, endpoint):
    row = caption(store, endpoint.config())
    assert (row["status"], row["requests"]) == ("captioned", 1)
    assert [s["text"][-2] for s in row["shots"]] == ["1", "2"]
    assert row["cost_usd"] == pytest.approx(1000 * 10 / 1e6 + 100 * 100 / 1e6)
    (body,) = endpoint.requests
    parts = body["messages"][1]["content"]
    assert [p["type"] for p in parts] == ["text", "image_url", "text", "image_url", "text"]
    assert body["response_format"]["type"] == "json_schema"


def test_the_same_scene_is_never_asked_twice(store, endpoint):
    caption(store, endpoint.config())
    row = caption(store, endpoint.config())
    assert len(endpoint.requests) == 1
    assert (row["status"], row["requests"], row["cost_usd"]) == ("captioned", 0, 0.0)


def test_a_busy_endpoint_is_asked_again(store, endpoint):
    busy = {1: (429, {"Retry-After": "0"}, {}), 2: (503, {}, {})}
    endpoint.script = lambda n: busy.get(n) or answer(json.dumps(GOOD))
    row = caption(store, endpoint.config())
    assert (row["status"], row["requests"]) == ("captioned", 3)


def test_an_endpoint_that_never_answers_is_given_up_with_the_reason(store, endpoint):
    endpoint.script = lambda n: (500, {}, {"error": "boom"})
    row = caption(store, endpoint.config(max_attempts=2))
    assert (row["status"], row["reason"]) == ("rejected", "endpoint_exhausted")
    assert "HTTP 500" in row["detail"]
    assert len(endpoint.requests) == 2


def test_a_request_that_is_refused_is_not_repeated(store, endpoint):
    endpoint.script = lambda n: (400, {}, {"error": "bad model"})
    row = caption(store, endpoint.config())
    assert (row["reason"], len(endpoint.requests)) == ("caption_refused", 1)


def test_a_model_that_refuses_is_a_rejected_scene(store, endpoint):
    refusal = {"choices": [{"message": {"content": None, "refusal": "I will not."}}]}
    endpoint.script = lambda n: (200, {}, refusal)
    row = caption(store, endpoint.config())
    assert (row["reason"], row["detail"]) == ("caption_refused", "I will not.")


def test_an_answer_with_unknown_ids_is_asked_once_more_with_the_complaint(store, endpoint):
    bad = json.loads(json.dumps(GOOD))
    bad["shots"][1]["entity_ids"] = ["e9"]
    endpoint.script = lambda n: answer(json.dumps(bad if n == 1 else GOOD))
    row = caption(store, endpoint.config())
    assert (row["status"], row["refined"], row["requests"]) == ("captioned", True, 2)
    assert "e9" in endpoint.requests[1]["messages"][1]["content"][-1]["text"]


@pytest.mark.parametrize("content", ["no JSON at all", '{"shots": [{"shot": 0}]}', '{"shots": []}'])
def test_an_answer_that_stays_malformed_is_rejected(store, endpoint, content):
    endpoint.script = lambda n: answer(content)
    row = caption(store, endpoint.config())
    assert (row["status"], row["reason"]) == ("rejected", "caption_invalid")
    assert len(endpoint.requests) == 2


def test_spending_never_exceeds_the_budget(store, endpoint):
    budget_usd = 0.12
    config = endpoint.config(max_output_tokens=100, concurrency=4, budget_usd=budget_usd)
    endpoint.script = lambda n: answer(json.dumps(GOOD), tokens=(600, 100))
    views = []
    for i in range(12):
        view = scene(store)
        shots = tuple(
            ShotView(**{**vars(s), "keyframe_sha256s": (f"{i}-{s.shot_id}",)}) for s in view.shots
        )
        views.append(SceneView(f"scene{i}", "v", view.uri, shots, store))
    rows = caption_loop(store, config).caption(views, {})
    spent = sum(row["cost_usd"] for row in rows)
    reasons = {row["reason"] for row in rows}
    assert spent == pytest.approx(sum(1 for r in endpoint.requests) * 0.016)
    assert 0 < spent <= budget_usd
    assert reasons == {None, str(CaptionReason.BUDGET_EXHAUSTED)}


def test_a_remote_endpoint_without_a_key_says_which_variable_to_set(store, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        caption_loop(store, CaptionerConfig(kind="openai", base_url="https://captions.example/v1"))


def test_each_structural_fault_has_its_check(store):
    view = scene(store)
    broken = SceneCaption(
        shots=(ShotCaption("s0", "short", ("e1", "e7")),),
        entities=(Entity("e1", "bear"), Entity("e1", "bear"), Entity("e2", "cat")),
    )
    failed = {
        c["check"] for c in check_structure(broken, view, ValidationConfig()) if not c["passed"]
    }
    assert failed == {"shots", "entity_ids", "entities_unique", "entities_used", "length"}


def test_texts_that_were_swapped_fail_the_rank_check(store):
    view = scene(store)
    rows = np.stack([shot.embedding for shot in view.shots])
    right = SceneCaption(shots=(ShotCaption("s0", "zero"), ShotCaption("s1", "one")))
    swapped = SceneCaption(shots=(ShotCaption("s0", "one"), ShotCaption("s1", "zero")))
    config = ValidationConfig(min_own_rank_margin=0.0)

    def embed_text(texts):
        return np.stack([rows[0] if text == "zero" else rows[1] for text in texts])

    assert complaints(check_rank(right, view, config, embed_text)) == []
    assert complaints(check_rank(swapped, view, config, embed_text)) != []
