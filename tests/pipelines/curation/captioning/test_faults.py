"""A slow and broken endpoint: every scene ends with words or a reason, and the cap on spending
holds whatever happens."""

import asyncio
import re
from dataclasses import replace

import pytest

from fw_model.errors import StorageError
from fw_model.schemas.curated import CaptionReason
from pipelines.curation.captioners.base import CaptionContext, make_captioner
from pipelines.curation.captioning.caption_loop import CaptionLoop
from pipelines.curation.captioning.shared_budget import JournaledAccount, spent_before, spent_by
from pipelines.curation.config import CaptionerConfig, ValidationConfig
from pipelines.llm.budget import LocalBudget, Refusal
from pipelines.storage.store import Store
from tests.pipelines.curation.captioning.test_captions import EMBEDDER, UNRANKED, scene
from tests.pipelines.curation.rough_endpoint import (
    USD_PER_ANSWER,
    USD_PER_MILLION_INPUT,
    USD_PER_MILLION_OUTPUT,
    RoughEndpoint,
)

NUM_SCENES = 30
TRANSIENT = ("busy", "error", "drop", "gateway")
LASTING = ("ok", "ok", "malformed", "ok", "refuse", "wrong_ids")


def rough(label, before):
    """Up to two transient faults, then what this scene always says; wrong ids are corrected."""
    number = scene_number(label)
    if before < number % 3:
        return TRANSIENT[(number + before) % len(TRANSIENT)]
    lasting = LASTING[number % len(LASTING)]
    return "ok" if lasting == "wrong_ids" and before > number % 3 else lasting


def scene_number(label):
    """Scenes are told apart by the length of their first shot, in tenths of a second."""
    return round(float(re.search(r"([\d.]+) s:", label)[1]) * 10)


def scenes(store, count=NUM_SCENES):
    view = scene(store)
    return [
        replace(
            view,
            scene_id=f"scene{i}",
            shots=tuple(replace(s, duration_s=i / 10) for s in view.shots),
        )
        for i in range(count)
    ]


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path / "out"))


@pytest.fixture
def serve():
    served = []

    def start(plan=rough, **settings):
        served.append(RoughEndpoint(plan, **settings))
        return served[-1]

    yield start
    for endpoint in served:
        endpoint.close()


def config(endpoint, **settings):
    return CaptionerConfig(
        kind="openai",
        base_url=endpoint.base_url,
        max_retry_wait_s=0.05,
        max_output_tokens=100,
        usd_per_million_input_tokens=USD_PER_MILLION_INPUT,
        usd_per_million_output_tokens=USD_PER_MILLION_OUTPUT,
        **settings,
    )


def caption(store, settings, views, *, run_id="r", num_actors=2, validation=UNRANKED):
    """Caption as a run does: several actors, one budget, a journal."""
    budget = LocalBudget(JournaledAccount(store, run_id, settings.budget_usd))
    context = CaptionContext(settings, store, EMBEDDER, validation, budget=budget)
    loops = [
        CaptionLoop(make_captioner(context), context, settings.concurrency)
        for _ in range(num_actors)
    ]

    async def together():
        return await asyncio.gather(
            *(loop.caption_async(views[i::num_actors], {}) for i, loop in enumerate(loops))
        )

    rows = [row for part in asyncio.run(together()) for row in part]
    return sorted(rows, key=lambda row: int(row["scene_id"].removeprefix("scene")))


def test_every_scene_ends_with_words_or_the_reason_that_fits(store, serve):
    endpoint = serve()
    rows = caption(store, config(endpoint), scenes(store))
    expected = {"malformed": "caption_invalid", "refuse": "caption_refused"}
    assert [row["reason"] for row in rows] == [
        expected.get(LASTING[i % len(LASTING)]) for i in range(NUM_SCENES)
    ]
    assert all((row["status"] == "captioned") == bool(row["shots"]) for row in rows)
    assert endpoint.billed_usd <= sum(row["cost_usd"] for row in rows)
    # On a busy machine a request may time out before it arrives: it was made all the same.
    made = sum(row["requests"] for row in rows)
    assert endpoint.num_requests <= made <= endpoint.num_requests + NUM_SCENES // 4
    malformed = rows[2]["detail"]
    assert "not the JSON" in malformed and "The bear does thing 1." in malformed


@pytest.mark.parametrize("answers", [0, 1, 7, 20])
def test_two_actors_and_two_runs_together_never_exceed_the_budget(store, serve, answers):
    endpoint = serve()
    reserved_usd = 0.06  # a request may cost more than it does
    settings = config(endpoint, budget_usd=reserved_usd + answers * USD_PER_ANSWER)
    first = caption(store, settings, scenes(store), run_id="one")
    after_one = endpoint.num_requests
    assert after_one >= (1 if answers else 0)
    assert endpoint.billed_usd <= spent_before(store) <= settings.budget_usd
    assert {row["reason"] for row in first} >= {str(CaptionReason.BUDGET_EXHAUSTED)}
    assert all(row["reason"] in {*CaptionReason} or row["shots"] for row in first)
    waiting = [v for v, row in zip(scenes(store), first, strict=True) if row["reason"] ==
               "budget_exhausted"]  # fmt: skip
    again = caption(store, settings, waiting, run_id="two")
    assert {row["reason"] for row in again} == {"budget_exhausted"}
    assert endpoint.num_requests == after_one
    assert endpoint.billed_usd <= settings.budget_usd


def test_what_was_answered_is_not_asked_again_even_by_a_run_that_kept_no_row(store, serve):
    endpoint = serve(lambda label, before: "malformed" if scene_number(label) == 3 else "ok")
    first = caption(store, config(endpoint), scenes(store, 8), run_id="one")
    asked = endpoint.num_requests
    again = caption(store, config(endpoint), scenes(store, 8), run_id="two")
    assert (asked, endpoint.num_requests) == (9, 9)
    assert [r["reason"] for r in first] == [r["reason"] for r in again]
    assert spent_by(store, "two") == 0.0


def test_an_answer_that_cannot_be_kept_is_used_and_its_price_noted(store, serve, monkeypatch):
    endpoint = serve(lambda label, before: "ok")

    def full(key, data):
        raise StorageError(f"Cannot write {key}: no space left.")

    monkeypatch.setattr(store, "write_once", full)
    rows = caption(store, config(endpoint), scenes(store, 3))
    assert {row["status"] for row in rows} == {"captioned"}
    assert all(row["cost_usd"] == pytest.approx(USD_PER_ANSWER) for row in rows)


def test_a_wrong_key_passes_and_is_tried_once_not_for_every_scene(store, serve):
    endpoint = serve(lambda label, before: "ok")
    endpoint._reply = lambda handler, body: _deny(endpoint, handler)
    rows = caption(store, config(endpoint, concurrency=1), scenes(store, 6), num_actors=1)
    assert {row["reason"] for row in rows} == {"endpoint_exhausted"}
    assert "HTTP 401" in rows[5]["detail"]
    assert endpoint.num_requests == 1


def _deny(endpoint, handler):
    endpoint.num_requests += 1
    handler.send_response(401)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def test_an_answer_without_a_message_is_paid_for_and_asked_once_more(store, serve):
    endpoint = serve(lambda label, before: "garbage" if before == 0 else "ok")
    (row,) = caption(store, config(endpoint), scenes(store, 1))
    assert (row["status"], row["requests"], row["refined"]) == ("captioned", 2, True)
    assert row["cost_usd"] > 2 * USD_PER_ANSWER


def test_an_endpoint_that_asks_to_wait_too_long_is_given_up(store, serve):
    endpoint = serve(lambda label, before: "busy")
    settings = config(endpoint).model_copy(update={"max_retry_wait_s": 0.01})
    (row,) = caption(store, settings, scenes(store, 1))
    assert (row["reason"], row["requests"]) == ("endpoint_exhausted", 1)
    assert "max_retry_wait_s" in row["detail"]


VERDICT = ValidationConfig(min_own_rank_margin=None, verdict=True)


def test_a_verdict_is_asked_for_each_caption_and_paid_for(store, serve):
    endpoint = serve(lambda label, before: "ok")
    rows = caption(store, config(endpoint), scenes(store, 3), validation=VERDICT)
    assert [row["status"] for row in rows] == ["captioned"] * 3
    assert [row["requests"] for row in rows] == [2] * 3
    assert {c["check"] for c in rows[0]["checks"]} >= {"verdict"}
    assert endpoint.num_verdicts == 3
    caption(store, config(endpoint), scenes(store, 3), validation=VERDICT, run_id="two")
    assert endpoint.num_requests == 6


def test_a_verdict_against_a_caption_has_it_refined_once_then_rejected(store, serve):
    endpoint = serve(lambda label, before: "ok")
    endpoint.verdict = lambda texts: [
        {"shot": 1, "fits": True},
        {"shot": 2, "fits": False, "problem": "It is a cat."},
    ]
    (row,) = caption(store, config(endpoint), scenes(store, 1), validation=VERDICT)
    assert (row["status"], row["reason"]) == ("rejected", "caption_mismatch")
    assert (row["requests"], row["refined"], endpoint.num_verdicts) == (3, True, 1)
    assert "shot 2 'The bear does thing 2.': It is a cat." in row["detail"]


def test_a_verdict_that_leaves_a_shot_out_lets_nothing_pass(store, serve):
    endpoint = serve(lambda label, before: "ok")
    endpoint.verdict = lambda texts: [{"shot": 1, "fits": True}]
    (row,) = caption(store, config(endpoint), scenes(store, 1), validation=VERDICT)
    assert (row["reason"], row["shots"], endpoint.num_verdicts) == ("caption_invalid", [], 2)
    assert "shots [2] are not judged" in row["detail"]


def test_a_run_that_was_killed_has_noted_at_least_what_it_owes(store):
    killed = JournaledAccount(store, "killed", 1.0)
    killed.settle(killed.reserve(0.2), 0.1)
    killed.reserve(0.3)  # in flight when the run ends
    assert 0.4 <= spent_before(store) <= 0.42
    after = JournaledAccount(store, "after", 1.0)
    assert after.reserve(0.65) is Refusal.NEVER
    after.settle(after.reserve(0.5), 0.5)
    assert spent_before(store) == pytest.approx(spent_by(store, "killed") + 0.5)
    assert spent_before(store) <= 1.0


def test_without_a_limit_the_journal_ends_at_what_was_spent(store):
    budget = JournaledAccount(store, "run", None)
    holds = [budget.reserve(0.2) for _ in range(3)]
    assert spent_by(store, "run") >= 0.6
    for hold in holds:
        budget.settle(hold, 0.15)
    assert spent_by(store, "run") == pytest.approx(0.45)
