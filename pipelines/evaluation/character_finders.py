"""Finds characters in frames with a multimodal endpoint, as the paper asks Gemini for boxes.

One request asks for all characters of a frame. Answers are cached by the content of the question,
so a rerun asks nothing twice. A malformed answer loses one character, with a reason; an endpoint
that does not answer ends the run, because a network fault must not lower the score of a film. Knows
nothing about films or metrics.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fw_model.errors import CapacityError
from fw_model.evaluation.judges.characters import CharacterFinder, Sightings
from fw_model.evaluation.judges.config import CharactersConfig
from fw_model.evaluation.stories.truth import Box, Pixels
from fw_model.media.keyframes import encode_jpeg
from fw_model.registry import resolve
from pipelines.llm.endpoint import Endpoint, Failure, NoAnswer
from pipelines.llm.messages import Message, Part, image_part, json_part, text_part
from pipelines.storage.store import Store

FINDERS: Mapping[str, str] = {
    "openai": "pipelines.evaluation.character_finders:OpenAiCharacterFinder",
    "faces": "pipelines.evaluation.face_finder:FaceCharacterFinder",
}
PROMPT_FILE = Path(__file__).parent / "prompts" / "find_characters.md"
_UNITS = 1000  # the prompt asks for boxes in thousandths of the width and the height


@dataclass(frozen=True)
class FinderContext:
    """What a run gives a finder; `share` is its part of the run's rate limit and budget."""

    config: CharactersConfig
    store: Store
    share: float = 1.0


def make_finder(context: FinderContext) -> CharacterFinder | None:
    """Build the finder named by the configuration; None for `none`."""
    if context.config.kind == "none":
        return None
    finder: CharacterFinder = resolve(context.config.kind, FINDERS, "character finder")(context)
    return finder


class _CharacterAnswer(BaseModel):
    model_config = ConfigDict(extra="ignore")

    number: int = Field(ge=1)
    seen: bool
    left: int | None = None
    top: int | None = None
    right: int | None = None
    bottom: int | None = None


class BoxesAnswer(BaseModel):
    """What the endpoint is asked for; its JSON schema is sent along."""

    characters: list[_CharacterAnswer]


class OpenAiCharacterFinder:
    """Asks an OpenAI-compatible endpoint; a missing key is a ConfigError."""

    def __init__(self, context: FinderContext) -> None:
        config = context.config
        self._base_url = config.base_url
        self._store = context.store
        self._prompt = PROMPT_FILE.read_text(encoding="utf-8")
        self._schema = BoxesAnswer.model_json_schema()
        asked = [self._prompt, self._schema, config.max_output_tokens, config.json_schema]
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        self.version = f"{config.model}-{digest[:8]}"
        self._endpoint = Endpoint(
            config, tokens_per_image=config.tokens_per_image, share=context.share
        )

    def find(self, frame: Pixels, names: Sequence[str]) -> Sightings:
        """Return where the characters of these `names` are in a frame [H, W, 3]."""
        jpeg = encode_jpeg(frame)
        key = self._cache_key(jpeg, names)
        if self._store.exists(key):
            return _sightings(json.loads(self._store.read(key)), names)
        try:
            content, _ = asyncio.run(self._endpoint.ask(self._messages(jpeg, names), self._schema))
        except NoAnswer as error:
            if error.failure is Failure.MODEL_REFUSED:
                return _none(names, f"the model refuses to answer: {error.detail}")
            raise CapacityError(
                f"The character finder {self._base_url} gave no answer: {error.detail}; run the "
                "same command again to continue where it stopped."
            ) from error
        items = _items(content)
        if items is None:
            return _none(names, f"the answer is not the JSON asked for: {content[:80]!r}")
        self._store.write_once(key, json.dumps(items).encode())
        return _sightings(items, names)

    def _cache_key(self, jpeg: bytes, names: Sequence[str]) -> str:
        asked = [self.version, list(names), hashlib.sha256(jpeg).hexdigest()]
        digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        return f"answers/characters/{digest[:2]}/{digest}.json"

    def _messages(self, jpeg: bytes, names: Sequence[str]) -> list[Message]:
        numbered = "\n".join(f"{number}. {name}" for number, name in enumerate(names, start=1))
        content: list[Part] = [image_part(jpeg), text_part(f"The characters:\n{numbered}")]
        return [{"role": "system", "content": self._prompt}, {"role": "user", "content": content}]


def _items(content: str) -> list[Any] | None:
    """Return the unchecked objects in the text of an answer; None if it is not that JSON."""
    try:
        items = json.loads(json_part(content))["characters"]
    except (ValueError, LookupError, TypeError):
        return None
    return items if isinstance(items, list) else None


def _sightings(items: Sequence[Any], names: Sequence[str]) -> Sightings:
    """Assign the objects to the names by number; each is checked separately."""
    boxes: dict[str, Box] = {}
    not_found: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        own = [item for item in items if isinstance(item, dict) and item.get("number") == number]
        box = _box(own[0]) if len(own) == 1 else f"the answer lists it {len(own)} times"
        if isinstance(box, str):
            not_found[name] = box
        else:
            boxes[name] = box
    return Sightings(boxes, not_found)


def _box(item: Mapping[str, Any]) -> Box | str:
    """Return the box in fractions of the frame, or a sentence that says why there is none."""
    try:
        answer = _CharacterAnswer.model_validate(item)
    except ValidationError as fault:
        first = fault.errors()[0]
        return f"{'.'.join(map(str, first['loc']))} of the answer: {first['msg']}"
    if not answer.seen:
        return "not seen"
    left, top, right, bottom = answer.left, answer.top, answer.right, answer.bottom
    if left is None or top is None or right is None or bottom is None:
        return "seen, but the answer leaves out an edge of its box"
    return left / _UNITS, top / _UNITS, right / _UNITS, bottom / _UNITS


def _none(names: Sequence[str], why: str) -> Sightings:
    return Sightings(not_found=dict.fromkeys(names, why))
