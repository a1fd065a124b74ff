"""What a multimodal model is asked about a scene, and how its answers are read.

A question holds the labelled keyframes of all shots of a scene and asks for one JSON object: first
for the words, then, if wanted, for a verdict on them. Knows nothing of who answers.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from fw_model.errors import ConfigError
from pipelines.curation.captioners.base import (
    Entity,
    Prompts,
    SceneCaption,
    SceneView,
    ShotCaption,
    ShotView,
)
from pipelines.curation.config import CaptionerConfig, ValidationConfig

PROMPTS = Path(__file__).parent.parent / "prompts"
ANSWERS = "ledger/answers"
TEMPLATE_TOKENS = 64  # what a chat template puts around the messages, at most
PICTURE_TEMPLATE_TOKENS = 8  # and around each picture

Messages = list[dict[str, Any]]


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
    """One request: `messages` in the chat format, the JSON schema of the answer, and an upper
    bound on the tokens that both take. `key` names the answer in the store."""

    key: str
    messages: Messages
    schema: dict[str, Any]
    max_tokens: int
    input_tokens: float


def load_prompts(config: CaptionerConfig, validation: ValidationConfig) -> Prompts:
    """Return the instructions: the user's files or the packaged ones; none for verdicts if there
    are none. ConfigError for a file that cannot be read."""
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
    """Return a short name for what the model is told: another prompt is another version."""
    digest = hashlib.sha256(prompt.encode())
    digest.update(json.dumps(schema.model_json_schema(), sort_keys=True).encode())
    return f"scene-{digest.hexdigest()[:8]}"


class SceneQuestions:
    """Makes the questions about scenes."""

    def __init__(self, config: CaptionerConfig, prompts: Prompts) -> None:
        self._config = config
        self._prompts = prompts
        self.prompt_version = prompt_version(prompts.caption, SceneAnswer)
        self._verdict_version = prompt_version(prompts.verdict, VerdictAnswer)

    def caption_key(self, scene: SceneView, complaints: Sequence[str] = ()) -> str:
        """Return the name of the answer to `caption`, without reading a picture."""
        return self._key(self.prompt_version, scene, list(complaints))

    def caption(self, scene: SceneView, complaints: Sequence[str] = ()) -> Question:
        """Ask for the words of a scene; StorageError if a keyframe is missing."""
        ask = f"Describe these {len(scene.shots)} shots."
        if complaints:
            ask += " An earlier answer was refused. Correct this: " + "; ".join(complaints)
        content = _labelled(scene, lambda number, shot: "")
        content.append({"type": "text", "text": ask})
        key = self.caption_key(scene, complaints)
        return self._question(key, self._prompts.caption, content, SceneAnswer)

    def verdict_key(self, scene: SceneView, caption: SceneCaption, attempt: int) -> str:
        """Return the name of the answer to `verdict`, without reading a picture."""
        return self._key(self._verdict_version, scene, [_told(caption), attempt])

    def verdict(self, scene: SceneView, caption: SceneCaption, attempt: int) -> Question:
        """Ask whether the words suit the pictures; `attempt` tells a repeated question apart."""
        told = _told(caption)
        content = _labelled(scene, lambda number, shot: told["shots"][number - 1])
        content.append({"type": "text", "text": f"Declared: {told['entities']}. Judge each shot."})
        key = self.verdict_key(scene, caption, attempt)
        return self._question(key, self._prompts.verdict, content, VerdictAnswer)

    def _key(self, version: str, scene: SceneView, said: list[Any]) -> str:
        asked = [
            self._config.model,
            version,
            self._config.max_output_tokens,
            self._config.json_schema,
            [[shot.keyframe_sha256s, f"{shot.duration_s:.1f}"] for shot in scene.shots],
            said,
        ]
        digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        return f"{ANSWERS}/{digest[:2]}/{digest}.json"

    def _question(
        self, key: str, prompt: str, content: list[dict[str, Any]], answer: type[BaseModel]
    ) -> Question:
        schema = answer.model_json_schema()
        words = prompt + "".join(part.get("text", "") for part in content)
        pictures = sum(part["type"] == "image_url" for part in content)
        tokens = text_tokens(words, schema if self._config.json_schema else None)
        tokens += pictures * (self._config.tokens_per_image + PICTURE_TEMPLATE_TOKENS)
        messages: Messages = [
            {"role": "system", "content": prompt},
            {"role": "user", "content": content},
        ]
        return Question(key, messages, schema, self._config.max_output_tokens, tokens)


def text_tokens(words: str, schema: Mapping[str, Any] | None) -> int:
    """Return the most tokens that `words` and a schema take: a token is at least a byte."""
    told = "" if schema is None else json.dumps(schema)
    return len(words.encode()) + len(told.encode()) + TEMPLATE_TOKENS


def _labelled(scene: SceneView, about: Callable[[int, ShotView], str]) -> list[dict[str, Any]]:
    """Return the keyframes of each shot under its number, followed by what `about` says of it."""
    content: list[dict[str, Any]] = []
    for number, shot in enumerate(scene.shots, start=1):
        content.append({"type": "text", "text": f"Shot {number}, {shot.duration_s:.1f} s:"})
        for jpeg in scene.jpegs(shot):
            data = base64.b64encode(jpeg).decode("ascii")
            url = {"url": f"data:image/jpeg;base64,{data}"}
            content.append({"type": "image_url", "image_url": url})
        if said := about(number, shot):
            content.append({"type": "text", "text": said})
    return content


def _told(caption: SceneCaption) -> dict[str, Any]:
    """Return a caption in the words in which it is judged."""
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
    """Join an answer to the scene's shots by number. A shot that was left out stays out, so that
    validation sees it."""
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
