"""`filmweaver write-scenes`: more scenes for evaluation, written by a language model.

A scene is asked for at a time, knowing which there are already; it is checked against the recipe of
evaluation/stories/scenes.py, asked for once more with what was wrong, and left out if that stays.
The file is written whole after each scene, so a stopped run goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from fw_model.config import StrictModel
from fw_model.errors import CapacityError, ConfigError, DataError
from fw_model.evaluation.stories.scenes import SceneSet, WrittenScene, load_scenes, recipe_faults
from fw_model.schemas.curated import CaptionReason
from pipelines.curation.captioners.base import Usage
from pipelines.curation.captioners.endpoint import (
    TOKENS_PER_CHARACTER,
    Endpoint,
    GivenUp,
    ModelRefused,
    json_part,
)
from pipelines.storage.store import Store

logger = logging.getLogger(__name__)

PROMPT_FILE = Path(__file__).parent / "prompts" / "write_scenes.md"
_TOLD_FAULTS = 8  # a model corrects a few faults better than a long list
_TOLD_SCENES = 100  # the latest are told to the model; ids and prompts are held against all

Messages = list[dict[str, str]]


class WriterConfig(StrictModel):
    """Who writes scenes, and what they must hold to."""

    base_url: str = Field("http://127.0.0.1:8000/v1", description="OpenAI-compatible endpoint.")
    model: str = Field("default", description="Model name sent to the endpoint.")
    api_key_env: str = Field("OPENAI_API_KEY", description="Environment variable of the key.")
    num_scenes: int = Field(20, ge=1, le=10_000, description="Scenes that the file shall hold.")
    shots_per_scene: int = Field(5, ge=1, le=64, description="Shots in a scene.")
    min_words: int = Field(25, ge=1, le=500, description="Shortest prompt, words.")
    max_words: int = Field(60, ge=1, le=500, description="Longest prompt, words.")
    topic: str = Field("", description="What the scenes shall be about; empty: anything.")
    temperature: float = Field(1.0, ge=0, le=2, description="Of sampling; low ones repeat.")
    requests_per_minute: float | None = Field(None, gt=0, description="Null: no limit.")
    timeout_s: float = Field(300.0, gt=0, description="Longest wait for one answer, seconds.")
    max_attempts: int = Field(6, ge=1, le=100, description="Attempts per request, first included.")
    max_retry_wait_s: float = Field(60.0, ge=0, description="Longest pause before another attempt.")
    budget_usd: float | None = Field(
        None, ge=0, description="Spend never exceeds this in one run. Null: no limit."
    )
    usd_per_million_input_tokens: float = Field(0.0, ge=0, description="Price, for the budget.")
    usd_per_million_output_tokens: float = Field(0.0, ge=0, description="Price, for the budget.")
    max_output_tokens: int = Field(4096, ge=64, description="Upper bound on an answer's length.")
    json_schema: bool = Field(
        True, description="Ask for response_format json_schema; off: the prompt alone asks."
    )

    @model_validator(mode="after")
    def _lengths_are_a_range(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}")
        return self


@dataclass(frozen=True)
class WritingSummary:
    """What a run did: scenes kept from before, written now, and why others were left out."""

    kept: int
    written: int
    left_out: tuple[str, ...]
    usage: Usage


def run_write_scenes(
    config: WriterConfig, output: Path, on_progress: Callable[[int], None] | None = None
) -> WritingSummary:
    """Ask for as many scenes as the file `output` lacks of `num_scenes`, and add the good ones.

    `on_progress` is called with the number of scenes done with. Raises InputError if `output` is
    another kind of file, ConfigError or CapacityError if the endpoint gives no answers, DataError
    if none of them was a scene.
    """
    before = load_scenes(output) if output.exists() else None
    scenes = list(before.scenes) if before else []
    about = before.about if before else f"Written by {config.model} for `filmweaver evaluate`."
    if len(scenes) >= config.num_scenes:
        return WritingSummary(len(scenes), 0, (), Usage())
    desk = _Desk(config)
    left_out: list[str] = []
    kept, usage = len(scenes), Usage()
    for number in range(kept + 1, config.num_scenes + 1):
        try:
            written = asyncio.run(desk.write(scenes))
        except GivenUp as fault:
            raise _no_answers(config, fault, len(scenes), output) from fault
        usage = usage.plus(written.usage)
        if written.scene is None:
            left_out.append(f"scene {number}: {'; '.join(written.faults)}")
            logger.warning("left out %s", left_out[-1])
        else:
            scenes.append(written.scene)
            _save(SceneSet(about=about, scenes=tuple(scenes)), output)
        if on_progress is not None:
            on_progress(number)
    if not scenes:
        raise DataError(f"{config.model} wrote no scene that can be used; {left_out[-1]}.")
    return WritingSummary(kept, len(scenes) - kept, tuple(left_out), usage)


@dataclass(frozen=True)
class _Written:
    """An answer: a scene without fault, or the faults."""

    scene: WrittenScene | None
    faults: tuple[str, ...]
    usage: Usage


class _Desk:
    """Asks for scenes; GivenUp where no further question would be answered either."""

    def __init__(self, config: WriterConfig) -> None:
        self._config = config
        self._prompt = PROMPT_FILE.read_text(encoding="utf-8")
        self._endpoint = Endpoint(
            config, requests_per_minute=config.requests_per_minute, budget_usd=config.budget_usd
        )

    async def write(self, others: Sequence[WrittenScene]) -> _Written:
        """Ask for a scene unlike `others`, and once more if it is not what it should be."""
        messages = [
            {"role": "system", "content": self._prompt},
            {"role": "user", "content": question(self._config, others)},
        ]
        first, content = await self._ask(messages, others)
        if first.scene is not None or not content:
            return first
        complaint = "That is not right yet. Write the whole JSON object again and correct this: "
        messages.append({"role": "assistant", "content": content})
        messages.append(
            {"role": "user", "content": complaint + "; ".join(first.faults[:_TOLD_FAULTS]) + "."}
        )
        second, _ = await self._ask(messages, others)
        return _Written(second.scene, second.faults, first.usage.plus(second.usage))

    async def _ask(
        self, messages: Messages, others: Sequence[WrittenScene]
    ) -> tuple[_Written, str]:
        """Return what came of a question, and the text of the answer, "" where there is none."""
        body = self._body(messages)
        try:
            content, usage = await self._endpoint.ask(
                body, TOKENS_PER_CHARACTER * len(json.dumps(body))
            )
        except GivenUp as fault:
            if isinstance(fault, ModelRefused) or fault.reason == CaptionReason.INVALID:
                return _Written(None, (f"no scene came: {fault.detail}",), fault.usage), ""
            raise
        scene, faults = read_answer(content, self._config, others)
        return _Written(scene, tuple(faults), usage), content

    def _body(self, messages: Messages) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._config.model,
            "temperature": self._config.temperature,
            "max_tokens": self._config.max_output_tokens,
            "messages": messages,
        }
        if self._config.json_schema:
            schema = {"name": "scene", "schema": WrittenScene.model_json_schema()}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body


def question(config: WriterConfig, others: Sequence[WrittenScene]) -> str:
    """Return what is asked for: numbers, the topic, and what there is already."""
    lines = [
        f"Write one scene of {config.shots_per_scene} shots. "
        f"Each prompt has {config.min_words} to {config.max_words} words."
    ]
    if config.topic:
        lines.append(f"The scene is about this: {config.topic}")
    if others:
        lines.append("These scenes are there already; choose other characters, place and style:")
        told = others[-_TOLD_SCENES:]
        lines += [f"- {o.id}: {o.title}; {o.characters[0].name}; {o.colour_style}" for o in told]
    return "\n".join(lines)


def read_answer(
    content: str, config: WriterConfig, others: Sequence[WrittenScene]
) -> tuple[WrittenScene | None, list[str]]:
    """Return the scene that `content` holds, or None and in words what is wrong with it."""
    try:
        tree = json.loads(json_part(content))
        scene = WrittenScene.model_validate(tree, extra="ignore")
    except ValidationError as error:
        return None, [
            f"{'.'.join(map(str, fault['loc'])) or 'the scene'}: {fault['msg']}"
            for fault in error.errors()
        ]
    except ValueError as error:
        return None, [f"the answer is not a JSON object ({error})"]
    faults = recipe_faults(
        scene,
        num_shots=config.shots_per_scene,
        min_words=config.min_words,
        max_words=config.max_words,
    )
    if scene.id in {other.id for other in others}:
        faults.append(f"another scene has the id {scene.id!r}")
    if any({s.prompt for s in scene.shots} & {s.prompt for s in o.shots} for o in others):
        faults.append("a prompt is copied from another scene")
    return (None if faults else scene), faults


def _save(scenes: SceneSet, output: Path) -> None:
    text = json.dumps(scenes.model_dump(mode="json"), indent=1, ensure_ascii=False)
    Store(str(output.parent)).write(output.name, (text + "\n").encode())


def _no_answers(
    config: WriterConfig, fault: GivenUp, num_scenes: int, output: Path
) -> ConfigError | CapacityError:
    """Return the error for an endpoint that answers nothing: of a setting, or of its capacity."""
    kind = ConfigError if fault.reason == CaptionReason.REFUSED else CapacityError
    return kind(
        f"{config.base_url} wrote no scene: {fault.detail}. {output} holds {num_scenes} scenes; "
        "the same command goes on from there."
    )
