"""What a multimodal model is asked about a scene, and the form of its answers.

A question holds the labelled keyframes of all shots of a scene and asks for one JSON object: the
captions, or a verdict on them. Knows nothing about who answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pydantic import BaseModel, ConfigDict, Field

from fw_model.errors import ConfigError
from pipelines.curation.captioners.base import (
    Entity,
    Prompts,
    SceneCaption,
    SceneView,
    ShotCaption,
)
from pipelines.curation.config import CaptionerConfig, ValidationConfig
from pipelines.llm.messages import JsonSchema, Message, Part, image_part, text_part

PROMPTS = Path(__file__).parent.parent / "prompts"
ANSWERS = "ledger/answers"

# Names and docstrings of the answers are part of their schemas, and so of `prompt_version` and of
# the keys of cached answers: after a change, every question is asked, and paid for, again.


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _EntityAnswer(_Answer):
    id: str
    name: str
    attributes: str = ""
    kind: str = ""


class _ShotAnswer(_Answer):
    shot: int = Field(ge=1)
    text: str
    framing: str = ""
    entity_ids: list[str] = Field(default_factory=list)


class SceneAnswer(_Answer):
    """The words for a scene."""

    entities: list[_EntityAnswer] = Field(default_factory=list)
    style: str = ""
    shots: list[_ShotAnswer]


class _ShotVerdict(_Answer):
    shot: int = Field(ge=1)
    fits: bool
    problem: str = ""


class VerdictAnswer(_Answer):
    """Whether the words suit the pictures."""

    shots: list[_ShotVerdict]


@dataclass(frozen=True)
class Question:
    """One request; `schema` describes the answer, and the store caches the answer under `key`."""

    key: str
    messages: list[Message]
    schema: JsonSchema
    max_tokens: int


def load_prompts(config: CaptionerConfig, validation: ValidationConfig) -> Prompts:
    """Return the instructions, the user's or the packaged ones; ConfigError for an unreadable file.

    The instructions for verdicts are empty if no verdicts are wanted.
    """
    caption = _prompt(config.prompt, "scene_caption.md")
    if not validation.verdict:
        return Prompts(caption)
    return Prompts(caption, _prompt(validation.verdict_prompt, "scene_verdict.md"))


def _prompt(path: str | None, packaged: str) -> str:
    try:
        return Path(path or PROMPTS / packaged).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The prompt {path!r} cannot be read: {error}.") from error


def prompt_version(prompt: str, schema: type[BaseModel]) -> str:
    """Return a short name that changes with the prompt and with the schema of the answer."""
    digest = hashlib.sha256(prompt.encode())
    digest.update(json.dumps(schema.model_json_schema(), sort_keys=True).encode())
    return f"scene-{digest.hexdigest()[:8]}"


class SceneQuestions:
    """Builds the questions about scenes."""

    def __init__(self, config: CaptionerConfig, prompts: Prompts) -> None:
        self._config = config
        self._prompts = prompts
        self.prompt_version = prompt_version(prompts.caption, SceneAnswer)
        self._verdict_version = prompt_version(prompts.verdict, VerdictAnswer)

    def caption_key(self, scene: SceneView, complaints: Sequence[str] = ()) -> str:
        """Return the key of the answer to `caption`, without reading a keyframe."""
        return self._key(self.prompt_version, scene, list(complaints))

    def caption(self, scene: SceneView, complaints: Sequence[str] = ()) -> Question:
        """Ask for the captions of a scene; StorageError if a keyframe is missing."""
        request = f"Describe these {len(scene.shots)} shots."
        if complaints:
            request += " An earlier answer was refused. Correct this: " + "; ".join(complaints)
        content = [*_labelled_keyframes(scene), text_part(request)]
        key = self.caption_key(scene, complaints)
        return self._question(key, self._prompts.caption, content, SceneAnswer)

    def verdict_key(self, scene: SceneView, caption: SceneCaption, attempt: int) -> str:
        """Return the key of the answer to `verdict`, without reading a keyframe."""
        return self._key(self._verdict_version, scene, [_in_words(caption), attempt])

    def verdict(self, scene: SceneView, caption: SceneCaption, attempt: int) -> Question:
        """Ask whether the captions fit the keyframes; each `attempt` is a question of its own."""
        words = _in_words(caption)
        request = f"Declared: {words['entities']}. Judge each shot."
        content = [*_labelled_keyframes(scene, words["shots"]), text_part(request)]
        key = self.verdict_key(scene, caption, attempt)
        return self._question(key, self._prompts.verdict, content, VerdictAnswer)

    def _key(self, version: str, scene: SceneView, asked: Sequence[str | _Words | int]) -> str:
        parts = [
            self._config.model,
            version,
            self._config.max_output_tokens,
            self._config.json_schema,
            [[shot.keyframe_sha256s, f"{shot.duration_s:.1f}"] for shot in scene.shots],
            asked,
        ]
        digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return f"{ANSWERS}/{digest[:2]}/{digest}.json"

    def _question(
        self, key: str, prompt: str, content: list[Part], answer: type[BaseModel]
    ) -> Question:
        messages: list[Message] = [
            {"role": "system", "content": prompt},
            {"role": "user", "content": content},
        ]
        return Question(key, messages, answer.model_json_schema(), self._config.max_output_tokens)


def _labelled_keyframes(scene: SceneView, captions: Sequence[str] = ()) -> list[Part]:
    """Return the keyframes of each shot below its number, followed by its caption, if any."""
    content: list[Part] = []
    shots = zip(scene.shots, scene.all_jpegs(), strict=True)
    for number, (shot, jpegs) in enumerate(shots, start=1):
        content.append(text_part(f"Shot {number}, {shot.duration_s:.1f} s:"))
        content += [image_part(jpeg) for jpeg in jpegs]
        if captions:
            content.append(text_part(captions[number - 1]))
    return content


class _Words(TypedDict):
    entities: str
    shots: list[str]


def _in_words(caption: SceneCaption) -> _Words:
    """Return a caption as the text that the model is asked to judge."""
    entities = [
        f"{e.id} is {e.name}" + (f" ({e.attributes})" if e.attributes else "")
        for e in caption.entities
    ]
    shots = [
        f"Said of it: {shot.text} Entities: {', '.join(shot.entity_ids) or 'none'}."
        for shot in caption.shots
    ]
    return {"entities": "; ".join(entities) or "nothing", "shots": shots}


def to_caption(answer: SceneAnswer, scene: SceneView) -> SceneCaption:
    """Assign an answer to the scene's shots by number. A missing shot stays missing: validation
    rejects it."""
    by_number = {shot.shot: shot for shot in answer.shots}
    shots = tuple(
        ShotCaption(
            shot_id=view.shot_id,
            text=by_number[number].text,
            entity_ids=tuple(by_number[number].entity_ids),
            framing=by_number[number].framing,
        )
        for number, view in enumerate(scene.shots, start=1)
        if number in by_number
    )
    entities = tuple(Entity(e.id, e.name, e.attributes, e.kind) for e in answer.entities)
    return SceneCaption(shots, entities, answer.style)
