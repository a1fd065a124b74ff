"""Captions by ray.data.llm: its own processor and configuration, around an engine of this file.

vLLM itself is not run: the stage that would run it is replaced by one with the same columns.
"""

import json
from collections.abc import AsyncIterator

import pyarrow as pa
import pytest
import ray.data
from ray.data.llm import vLLMEngineProcessorConfig
from ray.llm._internal.batch.processor.base import Processor
from ray.llm._internal.batch.stages.base import StatefulStage, StatefulStageUDF
from ray.llm._internal.batch.stages.configs import (
    PrepareMultimodalStageConfig,
    resolve_stage_config,
)
from ray.llm._internal.batch.stages.vllm_engine_stage import vLLMOutputData

import pipelines.curation.captioning.vllm_rounds as rounds
from fw_model.errors import ConfigError
from fw_model.loading.config import ModelConfig, PartConfig
from pipelines.curation.captioners.base import CaptionContext
from pipelines.curation.captioners.ray_llm import RayLlmCaptioner
from pipelines.curation.captioning.caption_loop import CaptionLoop
from pipelines.curation.config import CaptionerConfig, EngineConfig
from pipelines.storage.store import Store
from tests.pipelines.curation.captioning.test_captions import EMBEDDER, UNRANKED, scene

MODEL = ModelConfig(
    device="cpu", embedder=PartConfig(kind="tests.pipelines.curation.fake_embedder:FakeEmbedder")
)
CONFIG = CaptionerConfig(kind="ray_llm", model="org/some-vl-model")


def said(num_shots, ids=("e1",)):
    shots = [
        {"shot": n, "text": f"The bear does thing {n}.", "framing": "wide", "entity_ids": list(ids)}
        for n in range(1, num_shots + 1)
    ]
    return json.dumps({"entities": [{"id": "e1", "name": "bear"}], "style": "", "shots": shots})


class StubEngine(StatefulStageUDF):
    """Answers by the number of shots it is shown: 2 at once, 3 after a complaint, 4 never."""

    async def udf(self, batch: list[dict]) -> AsyncIterator[dict]:
        for row in batch:
            assert json.loads(row["sampling_params"]["structured_outputs"]["json"])["properties"]
            parts = row["messages"][1]["content"]
            shots = sum((p.get("text") or "").startswith("Shot ") for p in parts)
            kinds = [part["type"] for part in parts]
            assert kinds[:2] == ["text", "image_url"] and kinds.count("image_url") >= shots
            complained = "refused" in parts[-1]["text"]
            text = said(shots, ("e1",) if shots != 3 or complained else ("e9",))
            output = vLLMOutputData(
                prompt="", num_input_tokens=700, generated_text=text, num_generated_tokens=50
            )
            error = ""
            if shots == 4:
                error = "ValueError: the prompt is longer than the maximum model length"
                output = vLLMOutputData(prompt="", num_input_tokens=0)
            yield {
                **output.model_dump(),
                self.IDX_IN_BATCH_COLUMN: row[self.IDX_IN_BATCH_COLUMN],
                "__inference_error__": error,
            }


class StubStage(StatefulStage):
    fn: type[StatefulStageUDF] = StubEngine

    def get_required_input_keys(self) -> dict[str, str]:
        return {"messages": "", "sampling_params": ""}


def stub_processor(config):
    stage = StubStage(map_batches_kwargs={"concurrency": 1})
    return Processor(
        rounds.engine_config(config),
        [stage],
        preprocess=rounds.partial(rounds.to_engine, json_schema=config.json_schema),
        postprocess=rounds.from_engine,
    )


def scenes(store):
    """Three scenes, of 2, 3 and 4 shots."""
    views = [scene(store, num_shots=n) for n in (2, 3, 4)]
    return [type(v)(f"scene{i}", v.video_id, v.uri, v.shots, store) for i, v in enumerate(views)]


def test_rays_own_configuration_takes_what_it_is_given():
    engine = EngineConfig(
        engine_kwargs={"max_model_len": 8192}, replicas=3, batch_size=7, accelerator_type="H100"
    )
    config = rounds.engine_config(CONFIG.model_copy(update={"engine": engine}))
    assert isinstance(config, vLLMEngineProcessorConfig)
    assert config.should_continue_on_error is True
    assert (config.model_source, config.batch_size) == ("org/some-vl-model", 7)
    assert config.get_concurrency() == {"min_size": 1, "max_size": 3}
    assert config.engine_kwargs["max_model_len"] == 8192
    pictures = resolve_stage_config(config.prepare_multimodal_stage, PrepareMultimodalStageConfig)
    assert (pictures.enabled, pictures.chat_template_content_format) == (True, "openai")


def test_settings_that_ray_refuses_are_named():
    engine = EngineConfig().model_copy(update={"replicas": 0})
    with pytest.raises(ConfigError, match=r"captioner\.engine"):
        rounds.engine_config(CONFIG.model_copy(update={"engine": engine}))


def open_questions(store, views, answers):
    context = CaptionContext(CONFIG, store, EMBEDDER, UNRANKED, responses=answers)
    captioner = RayLlmCaptioner(context)
    rows = CaptionLoop(captioner, context, 1).caption(views, {})
    return captioner.open_questions, rows


@pytest.mark.slow
def test_rounds_of_rays_own_processor_answer_refine_and_reject(tmp_path, monkeypatch, ray_cluster):
    store = Store(str(tmp_path))
    views = scenes(store)
    answers = {}
    asked = []
    for _ in range(3):
        questions, _rows = open_questions(store, views, answers)
        asked.append(len(questions))
        if not questions:
            break
        table = pa.Table.from_pylist([rounds._row(q) for q in questions], schema=rounds.QUESTION)
        kept = (
            stub_processor(CONFIG)(ray.data.from_arrow(table))
            .map(rounds.partial(rounds.keep_row, store=store))
            .take_all()
        )
        answers |= {row["key"]: row for row in kept}
    assert asked == [3, 1, 0]
    _, rows = open_questions(store, views, answers)
    assert [(r["status"], r["reason"], r["refined"]) for r in rows] == [
        ("captioned", None, False),
        ("captioned", None, True),
        ("rejected", "caption_refused", False),
    ]
    assert "longer than the maximum model length" in rows[2]["detail"]
    assert [(r["requests"], r["prompt_tokens"], r["output_tokens"]) for r in rows] == [
        (1, 700, 50), (2, 1400, 100), (1, 0, 0),
    ]  # fmt: skip
    # A later run finds the answers kept, and pays for none.
    questions, rows = open_questions(store, views[:2], {})
    assert (questions, [r["requests"] for r in rows]) == ([], [0, 0])
