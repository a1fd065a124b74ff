"""Questions about scenes, answered by a model on the cluster itself (ray.data.llm), in rounds.

A ray.data.llm processor turns a dataset of questions into a dataset of responses. The next question
about a scene depends on the answers before (a refinement, a verdict), so there are rounds: the
first asks about every scene, each later one asks what is still open. Answers are cached in the
store by their question, as those of an endpoint are. If the engine cannot answer a question, only
that row has an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypedDict

import pyarrow as pa
from ray.exceptions import RayError

from fw_model.errors import CapacityError, ConfigError
from fw_model.loading.config import ModelConfig
from pipelines.curation.captioners.base import CaptionContext, EngineResponse, Prompts
from pipelines.curation.captioners.chat import VERDICT_ATTEMPTS, cache_answer
from pipelines.curation.captioners.questions import Question
from pipelines.curation.captioners.ray_llm import RayLlmCaptioner
from pipelines.curation.captioning.caption_loop import CaptionLoop
from pipelines.curation.captioning.operators import ScenePart, scenes_of
from pipelines.curation.config import CaptionerConfig, ValidationConfig
from pipelines.curation.ledger.receipts import Provenance
from pipelines.storage.arrow_rows import iter_rows, schema_of
from pipelines.storage.store import Store


class QuestionRow(TypedDict):
    """A question for the engine."""

    key: str
    messages: str  # as JSON: their parts have no common type
    schema: str  # as JSON
    max_tokens: int


QUESTION = schema_of(QuestionRow)

ERROR_COLUMN = "__inference_error__"  # the name that ray.data.llm gives it

Dataset = Any
Processor = Callable[[Dataset], Dataset]
Row = dict[str, Any]  # ray.data.llm adds its own columns


class OpenQuestions:
    """SCENE_PART -> QUESTION, 1:N: what to ask next, given the responses so far."""

    def __init__(
        self,
        captioner: CaptionerConfig,
        validation: ValidationConfig,
        prompts: Prompts,
        model: ModelConfig,
        store: Store,
        answers: Mapping[str, EngineResponse],
    ) -> None:
        from fw_model.loading.load import load_embedder

        embedder = load_embedder(model)
        context = CaptionContext(captioner, store, embedder, validation, prompts, responses=answers)
        self._captioner = RayLlmCaptioner(context)
        self._loop = CaptionLoop(self._captioner, context, concurrency=1)
        self._store = store

    def __call__(self, parts: pa.Table) -> pa.Table:
        self._captioner.open_questions.clear()
        for part in iter_rows(parts, ScenePart):
            # Only the questions that the captioner collects are needed; the rows are dropped.
            self._loop.caption(scenes_of(part, self._store), Provenance("", "", "").stamp())
        # Scenes with the same keyframes share a question; it is asked once.
        by_key = {q.key: q for q in self._captioner.open_questions}
        return pa.Table.from_pylist([_row(q) for q in by_key.values()], schema=QUESTION)


def answer_rounds(
    ask: Callable[[Mapping[str, EngineResponse]], list[EngineResponse]],
    captioner: CaptionerConfig,
    validation: ValidationConfig,
    on_round: Callable[[int, int], None],
) -> dict[str, EngineResponse]:
    """Call `ask` with the answers so far until it returns no more rows.

    Returns the response to each question, by key. CapacityError if the engine cannot run at all.
    """
    answers: dict[str, EngineResponse] = {}
    longest = (1 + validation.refinements) * (1 + VERDICT_ATTEMPTS * validation.verdict)
    for number in range(1, longest + 1):
        try:
            kept = ask(answers)
        except RayError as error:
            raise CapacityError(
                f"The engine for {captioner.model!r} could not run: {_last_line(error)}; install "
                "vLLM on the workers (pip install 'ray[llm]') or use kind: openai."
            ) from error
        if not kept:
            break
        answers |= {row["key"]: row for row in kept}
        on_round(number, len(kept))
    return answers


def make_processor(captioner: CaptionerConfig) -> Processor:
    """Return the ray.data.llm processor of a captioner; ConfigError if it rejects the settings."""
    from ray.data.llm import build_processor

    processor: Processor = build_processor(
        engine_config(captioner),
        preprocess=partial(to_engine, json_schema=captioner.json_schema),
        postprocess=from_engine,
    )
    return processor


def engine_config(captioner: CaptionerConfig) -> Any:
    """Return the configuration of the vLLM engine.

    The content format keeps each image below its own label; with plain strings, all images would
    come before all text.
    """
    from ray.data.llm import vLLMEngineProcessorConfig

    engine = captioner.engine
    try:
        return vLLMEngineProcessorConfig(
            model_source=captioner.model,
            engine_kwargs=dict(engine.engine_kwargs),
            accelerator_type=engine.accelerator_type,
            concurrency=engine.replicas,
            batch_size=engine.batch_size,
            should_continue_on_error=True,
            prepare_multimodal_stage={
                "enabled": True,
                "chat_template_content_format": "openai",
                "apply_sys_msg_formatting": True,
            },
            chat_template_stage=True,
            tokenize_stage=False,
            detokenize_stage=False,
        )
    except ValueError as error:
        raise ConfigError(
            f"ray.data.llm rejects curation.captioner.engine: {_last_line(error)}"
        ) from error


def to_engine(row: QuestionRow, *, json_schema: bool) -> Row:
    """Turn a QUESTION into the engine's input.

    The schema stays text: as structs, the schemas of two kinds of questions would be merged.
    """
    sampling: Row = {"temperature": 0.0, "max_tokens": int(row["max_tokens"])}
    if json_schema:
        sampling["structured_outputs"] = {"json": row["schema"]}
    return {"messages": json.loads(row["messages"]), "sampling_params": sampling}


def from_engine(row: Row) -> Row:
    """Return the columns to keep of an answered row; rows with an error skip this step."""
    return {
        "key": row["key"],
        "content": row["generated_text"],
        "prompt_tokens": row["num_input_tokens"],
        "output_tokens": row["num_generated_tokens"],
    }


def keep_row(row: Row, *, store: Store) -> EngineResponse:
    """Cache an answer, and return the response without its text."""
    error = str(row.get(ERROR_COLUMN) or "")[:300]
    if not error:
        cache_answer(store.write, row["key"], row["content"])
    return {
        "key": row["key"],
        "error": error,
        "prompt_tokens": 0 if error else int(row["prompt_tokens"]),
        "output_tokens": 0 if error else int(row["output_tokens"]),
    }


def _row(question: Question) -> QuestionRow:
    return {
        "key": question.key,
        "messages": json.dumps(question.messages),
        "schema": json.dumps(question.schema),
        "max_tokens": question.max_tokens,
    }


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
