"""`filmweaver write-scenes`: a language model writes more scenes for evaluation.

It is asked for one scene at a time and is shown those that exist. A scene is checked against the
recipe of evaluation/stories/scenes.py; one with faults is requested once more, then left out.
The file is written after each scene, so a stopped run continues where it was. Knows nothing about
how scenes are filmed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from fw_model.endpoint import EndpointConfig
from fw_model.errors import CapacityError, ConfigError, DataError
from fw_model.evaluation.stories.scenes import SceneSet, WrittenScene, load_scenes, recipe_faults
from pipelines.llm.endpoint import Endpoint, Failure, NoAnswer
from pipelines.llm.messages import Message, json_part
from pipelines.llm.usage import Usage
from pipelines.storage.store import Store

logger = logging.getLogger(__name__)

PROMPT_FILE = Path(__file__).parent / "prompts" / "write_scenes.md"
_MAX_SHOWN_FAULTS = 8  # a model corrects faults better if it sees only a few
_MAX_SHOWN_SCENES = 100  # the latest ones; ids and prompts are compared with all scenes


class WriterConfig(EndpointConfig):
    """Which model writes scenes, and what they must be like."""

    num_scenes: int = Field(20, ge=1, le=10_000, description="Scenes that the file should hold.")
    shots_per_scene: int = Field(5, ge=1, le=64, description="Shots in a scene.")
    min_words: int = Field(25, ge=1, le=500, description="Shortest prompt, words.")
    max_words: int = Field(60, ge=1, le=500, description="Longest prompt, words.")
    topic: str = Field("", description="What the scenes should be about; empty: anything.")
    temperature: float = Field(
        1.0, ge=0, le=2, description="Sampling temperature; at a low one, scenes repeat."
    )
    timeout_s: float = Field(300.0, gt=0, description="Longest wait for one response, seconds.")
    max_output_tokens: int = Field(4096, ge=64, description="Most tokens in one response.")

    @model_validator(mode="after")
    def _lengths_are_a_range(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}")
        return self


@dataclass(frozen=True)
class WritingSummary:
    """What a run did: scenes kept from before, scenes written, and why others were left out."""

    kept: int
    written: int
    left_out: tuple[str, ...]
    usage: Usage


def run_write_scenes(
    config: WriterConfig, output: Path, on_progress: Callable[[int], None] | None = None
) -> WritingSummary:
    """Ask for the scenes that are missing from the file `output`, and add the good ones to it.

    `on_progress` is called with the number of scenes processed. Raises InputError if `output` is
    another kind of file, ConfigError or CapacityError if the endpoint gives no answers, DataError
    if no answer was a scene.
    """
    before = load_scenes(output) if output.exists() else None
    scenes = list(before.scenes) if before else []
    about = before.about if before else f"Written by {config.model} for `filmweaver evaluate`."
    if len(scenes) >= config.num_scenes:
        return WritingSummary(len(scenes), 0, (), Usage())
    writer = _Writer(config)
    left_out: list[str] = []
    kept, usage = len(scenes), Usage()
    for number in range(kept + 1, config.num_scenes + 1):
        try:
            written = asyncio.run(writer.write(scenes))
        except NoAnswer as error:
            raise _no_answers(config, error, len(scenes), output) from error
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
        raise DataError(f"{config.model} wrote no usable scene; {left_out[-1]}.")
    return WritingSummary(kept, len(scenes) - kept, tuple(left_out), usage)


@dataclass(frozen=True)
class _Written:
    """An answer: a scene without faults, or the faults."""

    scene: WrittenScene | None
    faults: tuple[str, ...]
    usage: Usage


class _Writer:
    """Asks for scenes; NoAnswer if further questions would get no answer either."""

    def __init__(self, config: WriterConfig) -> None:
        self._config = config
        self._prompt = PROMPT_FILE.read_text(encoding="utf-8")
        self._endpoint = Endpoint(config)

    async def write(self, others: Sequence[WrittenScene]) -> _Written:
        """Ask for a scene unlike `others`, and once more if it has faults."""
        messages: list[Message] = [
            {"role": "system", "content": self._prompt},
            {"role": "user", "content": question(self._config, others)},
        ]
        first, content = await self._ask(messages, others)
        if first.scene is not None or not content:
            return first
        complaint = "That is not right yet. Write the whole JSON object again and correct this: "
        complaint += "; ".join(first.faults[:_MAX_SHOWN_FAULTS]) + "."
        messages.append({"role": "assistant", "content": content})
        messages.append({"role": "user", "content": complaint})
        second, _ = await self._ask(messages, others)
        return replace(second, usage=first.usage.plus(second.usage))

    async def _ask(
        self, messages: Sequence[Message], others: Sequence[WrittenScene]
    ) -> tuple[_Written, str]:
        """Return the scene of an answer, and its text, "" if this question has no answer."""
        schema = WrittenScene.model_json_schema()
        try:
            content, usage = await self._endpoint.ask(
                messages, schema, temperature=self._config.temperature
            )
        except NoAnswer as error:
            if error.failure in (Failure.MODEL_REFUSED, Failure.INVALID):
                return _Written(None, (f"there is no scene: {error.detail}",), error.usage), ""
            raise
        scene, faults = read_answer(content, self._config, others)
        return _Written(scene, tuple(faults), usage), content


def question(config: WriterConfig, others: Sequence[WrittenScene]) -> str:
    """Return the request: numbers, the topic, and the scenes that exist."""
    lines = [
        f"Write one scene of {config.shots_per_scene} shots. "
        f"Each prompt has {config.min_words} to {config.max_words} words."
    ]
    if config.topic:
        lines.append(f"The scene is about this: {config.topic}")
    if others:
        lines.append("These scenes are there already; choose other characters, place and style:")
        shown = others[-_MAX_SHOWN_SCENES:]
        lines += [f"- {o.id}: {o.title}; {o.characters[0].name}; {o.colour_style}" for o in shown]
    return "\n".join(lines)


def read_answer(
    content: str, config: WriterConfig, others: Sequence[WrittenScene]
) -> tuple[WrittenScene | None, list[str]]:
    """Return the scene in `content`, or None and its faults in words."""
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
    config: WriterConfig, error: NoAnswer, num_scenes: int, output: Path
) -> ConfigError | CapacityError:
    """Return the error for the user: ConfigError if the endpoint refuses, else CapacityError."""
    refuses = error.failure in (Failure.NO_ACCESS, Failure.REQUEST_REFUSED)
    kind = ConfigError if refuses else CapacityError
    return kind(
        f"{config.base_url} wrote no scene: {error.detail}. {output} holds {num_scenes} scenes; "
        "the same command continues from there."
    )
