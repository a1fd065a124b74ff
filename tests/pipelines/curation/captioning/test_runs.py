"""Whole runs on Ray with a model as captioner: faults, money, reruns, and what they recompute."""

import re

import pytest

import pipelines.curation.captioning.vllm_rounds as rounds
from pipelines.curation.captioners.questions import PROMPTS
from pipelines.curation.config import (
    CaptionerConfig,
    FilterConfig,
    ResourceConfig,
    ValidationConfig,
)
from tests.pipelines.curation.captioning.test_vllm_rounds import stub_processor
from tests.pipelines.curation.footage import write_film
from tests.pipelines.curation.rough_endpoint import (
    USD_PER_ANSWER,
    USD_PER_MILLION_INPUT,
    USD_PER_MILLION_OUTPUT,
    RoughEndpoint,
)
from tests.pipelines.curation.test_curate import curate, table

pytestmark = pytest.mark.slow

TWO_ACTORS = ResourceConfig(caption_actors=2, caption_cpus=0.25, scenes_per_commit=2)
UNRANKED = ValidationConfig(min_own_rank_margin=None)


def rough(label, before):
    """Shots of 1.5 s are refused, those of 2 s garbled; the others fail for a while."""
    seconds = re.search(r"([\d.]+) s:", label)[1]
    lasting = {"1.5": "refuse", "2.0": "malformed"}.get(seconds, "ok")
    return ("busy", "drop", "error")[before % 3] if before < 3 else lasting


@pytest.fixture
def endpoint():
    served = RoughEndpoint(rough)
    yield served
    served.close()


@pytest.fixture
def films(tmp_path):
    """Four films of three shots each, of 1.5, 2, 2.5 and 3 s."""
    folder = tmp_path / "films"
    folder.mkdir()
    for i in range(4):
        write_film(folder / f"{i}.mp4", [3 * i, 3 * i + 1, 3 * i + 2], 18 + 6 * i)
    return folder


def captioner(endpoint, **settings):
    return CaptionerConfig(
        kind="openai",
        base_url=endpoint.base_url,
        max_output_tokens=100,
        usd_per_million_input_tokens=USD_PER_MILLION_INPUT,
        usd_per_million_output_tokens=USD_PER_MILLION_OUTPUT,
        **settings,
    )


def test_runs_against_a_rough_endpoint(films, tmp_path, ray_cluster, endpoint):
    output = tmp_path / "out"

    def run(settings, **others):
        before = endpoint.num_requests
        summary = curate(
            films, output, captioner=settings, validation=UNRANKED, resources=TWO_ACTORS, **others
        )
        return summary, endpoint.num_requests - before

    plain = captioner(endpoint)
    first, asked = run(plain)
    assert first.scenes == first.scenes_captioned + first.scenes_rejected == 12
    assert first.caption_reasons == {"caption_refused": 3, "caption_invalid": 3}
    assert endpoint.billed_usd <= first.cost_usd
    (record,) = first.caption_runs
    assert (record.num_scenes, record.requests) == (12, asked)
    assert record.cost_usd == pytest.approx(first.cost_usd)
    assert record.estimate.requests_low == 12
    page = (output / "report.html").read_text()
    for words in ("I will not.", "caption_invalid", "The bear does thing", "<b>e1</b> the bear"):
        assert words in page

    again, asked = run(plain)
    assert (asked, again.scenes_captioned_now, again.cost_usd) == (0, 0, first.cost_usd)

    # A filter that drops a film decodes nothing and asks nothing.
    fewer, asked = run(plain, filters=FilterConfig(max_shot_s=2.8))
    assert (fewer.videos_analyzed_now, asked, fewer.scenes) == (0, 0, 9)

    # Another prompt asks about every scene again, and recomputes nothing else.
    prompt = tmp_path / "prompt.md"
    prompt.write_text((PROMPTS / "scene_caption.md").read_text() + "\nBe brief.\n")
    endpoint.plan = lambda label, before: "ok"
    other, asked = run(captioner(endpoint, prompt=str(prompt)))
    assert (other.videos_analyzed_now, other.scenes_captioned_now, asked) == (0, 12, 12)
    assert other.cost_usd == pytest.approx(first.cost_usd + 12 * USD_PER_ANSWER)

    # The budget is of the output, whatever the settings: it is spent, so nothing is asked.
    prompt.write_text("Describe it.")
    spent = captioner(endpoint, prompt=str(prompt), budget_usd=other.cost_usd)
    last, asked = run(spent)
    assert (asked, last.caption_reasons) == (0, {"budget_exhausted": 12})
    assert endpoint.billed_usd <= last.cost_usd <= spent.budget_usd


def test_a_model_on_the_cluster_captions_a_whole_run(films, tmp_path, ray_cluster, monkeypatch):
    monkeypatch.setattr(rounds, "make_processor", stub_processor)
    config = CaptionerConfig(kind="ray_llm", model="org/some-vl-model")
    settings = {"captioner": config, "validation": UNRANKED}
    first = curate(films, tmp_path / "out", **settings)
    assert (first.scenes, first.scenes_captioned, first.cost_usd) == (12, 12, 0.0)
    rows = table(tmp_path / "out", "captions")
    assert {(row["requests"], row["prompt_tokens"]) for row in rows} == {(1, 700)}
    again = curate(films, tmp_path / "out", **settings)
    assert again.scenes_captioned_now == 0
