"""The report of a finished output: what was said, what was refused and why, and what it cost."""

import re

import pytest

from pipelines.curation.analysis.keyframes import encode_jpeg
from pipelines.curation.captioning.cost_estimate import CaptionEstimate
from pipelines.curation.captioning.shared_budget import RunRecord
from pipelines.curation.ledger.tables import publish, write_part
from pipelines.curation.report.page import write_report
from pipelines.curation.report.summary import SUMMARY, CurationSummary
from pipelines.storage.store import Store
from tests.pipelines.curation.footage import scenery

ESTIMATE = CaptionEstimate(
    scenes=2, requests_low=2, requests_high=4, input_tokens_low=1400, input_tokens_high=9000,
    output_tokens_low=200, output_tokens_high=8000, usd_low=0.04, usd_high=0.9,
)  # fmt: skip


def shot(number):
    keyframe = {"frame": 3, "uri": "media/k.jpg"}
    return {
        "shot_id": f"s{number}", "video_id": "v", "uri": "/films/a.mp4", "index": number,
        "start_s": float(number), "end_s": number + 1.0, "motion": 2.0, "keyframes": [keyframe],
    }  # fmt: skip


def scene(number):
    return {
        "scene_id": f"scene{number}", "video_id": "v", "uri": "/films/a.mp4", "num_shots": 1,
        "shot_ids": [f"s{number}"], "start_s": 0.0, "end_s": 1.0, "mean_similarity": 1.0,
        "min_link_similarity": 1.0,
    }  # fmt: skip


CAPTIONED = {
    "scene_id": "scene0", "uri": "/films/a.mp4", "status": "captioned", "attempts": 1,
    "entities": [{"id": "e1", "name": "the bear", "attributes": "red cap"}],
    "shots": [{"shot_id": "s0", "text": "A bear waits.", "entity_ids": ["e1"], "framing": "wide"}],
}  # fmt: skip
REJECTED = {
    "scene_id": "scene1", "uri": "/films/a.mp4", "status": "rejected", "attempts": 2,
    "reason": "caption_mismatch", "detail": "verdict: shot 1 'A <b>cat</b> sleeps.': it is a bear",
    "entities": [], "shots": [],
}  # fmt: skip


@pytest.fixture
def page(tmp_path):
    store = Store(str(tmp_path))
    store.write("media/k.jpg", encode_jpeg(scenery(1), 90))
    video = {"video_id": "v", "uri": "/films/a.mp4", "status": "kept", "analyze_s": 1.0}
    tables = {
        "videos": [video],
        "shots": [shot(0), shot(1)],
        "scenes": [scene(0), scene(1)],
        "captions": [CAPTIONED, REJECTED],
    }
    parts = [write_part(store, name, 0, rows, "run") for name, rows in tables.items()]
    publish(store, parts, "run", {})
    run = RunRecord("run", "2026-01-02T03:04:05+00:00", 2, ESTIMATE, 3, 2100, 270, 0.05)
    shares = {"resolved_share": 0.98, "same_id_share": 0.5}
    summary = CurationSummary(
        1, 1, 0, 2, 2, 0, scenes_captioned=1, scenes_rejected=1, cost_usd=0.25,
        caption_reasons={"caption_mismatch": 1}, caption_runs=[run],
        entity_consistency=shares,
    )  # fmt: skip
    store.write(SUMMARY, summary.to_json().encode())
    write_report(store)
    return (tmp_path / "report.html").read_text()


def words(page):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


def test_contact_sheets_show_captions_and_the_entities_that_they_name(page):
    assert "<b>e1</b> the bear, red cap" in page
    assert "A bear waits. wide, 1.0 s e1" in words(page)


def test_rejected_scenes_stand_with_reason_and_the_words_that_were_refused(page):
    shown = words(page.split("Rejected scenes")[1].split("<section>")[0])
    assert "a.mp4 scene1 caption_mismatch" in shown
    assert "A &lt;b&gt;cat&lt;/b&gt; sleeps." in shown and "it is a bear 2" in shown
    assert "<b>cat</b>" not in page


def test_the_estimate_stands_beside_what_came(page):
    shown = words(page)
    assert "Captions have cost 0.25 USD so far." in shown
    assert "2 2 to 4 3 1,400 to 9,000 2,100 200 to 8,000 270 0.04 to 0.90 0.05" in shown
    assert "Runs that were killed: at most 0.20 USD." in shown


def test_consistency_stands_on_top(page):
    shown = words(page).split("Funnel")[0]
    assert "98.0% entity references resolved" in shown.replace("  ", " ")
    assert "50.0% recurring characters, same id" in shown
    assert "0.25 USD captions have cost" in shown
