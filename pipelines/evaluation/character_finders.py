"""Finds characters in frames through a multimodal endpoint, as the paper asks Gemini for boxes.

One request asks for all characters of a frame. Answers are kept by the content of the question, so
a rerun asks nothing twice. What a model says badly costs one character, with a word why; an
endpoint that gives no answer at all ends the run, for a film must not be judged by a fault.
"""

from __future__ import annotations

import asyncio
import base64
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
from pipelines.curation.captioners.endpoint import (
    TOKENS_PER_CHARACTER,
    Endpoint,
    GivenUp,
    ModelRefused,
    json_part,
)
from pipelines.storage.store import Store

FINDERS: Mapping[str, str] = {
    "openai": "pipelines.evaluation.character_finders:OpenAiCharacterFinder"
}
PROMPT_FILE = Path(__file__).parent / "prompts" / "find_characters.md"
_UNITS = 1000  # of width and height, in which the prompt asks for boxes


@dataclass(frozen=True)
class FinderContext:
    """What the run gives a finder; `share` is its part of the run's rate limit and budget."""

    config: CharactersConfig
    store: Store
    share: float = 1.0


def make_finder(context: FinderContext) -> CharacterFinder | None:
    """Build the finder that the configuration names; None for `none`."""
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
        self._config = config
        self._store = context.store
        self._prompt = PROMPT_FILE.read_text(encoding="utf-8")
        self._schema = BoxesAnswer.model_json_schema()
        asked = [self._prompt, self._schema, config.max_output_tokens, config.json_schema]
        digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
        self.version = f"{config.model}-{digest[:8]}"
        rate, budget = config.requests_per_minute, config.budget_usd
        self._endpoint = Endpoint(
            config,
            requests_per_minute=None if rate is None else rate * context.share,
            budget_usd=None if budget is None else budget * context.share,
        )

    def find(self, frame: Pixels, names: Sequence[str]) -> Sightings:
        """Say where characters of these `names` are in a frame [H, W, 3]; see the protocol."""
        jpeg = encode_jpeg(frame)
        key = self._cache_key(jpeg, names)
        if self._store.exists(key):
            return _sightings(json.loads(self._store.read(key)), names)
        body = self._body(jpeg, names)
        try:
            content, _ = asyncio.run(self._endpoint.ask(body, self._estimate_tokens(body)))
        except ModelRefused as refusal:
            return _none(names, f"the model refuses to say: {refusal.detail}")
        except GivenUp as fault:
            raise CapacityError(
                f"The character finder {self._config.base_url} gave no answer: {fault.detail}; run "
                "the same command again and it goes on where it was."
            ) from fault
        items = _items(content)
        if items is None:
            return _none(names, f"the answer is not the JSON asked for: {content[:80]!r}")
        self._store.write_once(key, json.dumps(items).encode())
        return _sightings(items, names)

    def _cache_key(self, jpeg: bytes, names: Sequence[str]) -> str:
        asked = [self.version, list(names), hashlib.sha256(jpeg).hexdigest()]
        digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        return f"answers/characters/{digest[:2]}/{digest}.json"

    def _body(self, jpeg: bytes, names: Sequence[str]) -> dict[str, Any]:
        data = base64.b64encode(jpeg).decode("ascii")
        numbered = "\n".join(f"{number}. {name}" for number, name in enumerate(names, start=1))
        content = [
            {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}},
            {"type": "text", "text": f"The characters:\n{numbered}"},
        ]
        body: dict[str, Any] = {
            "model": self._config.model,
            "temperature": 0,
            "max_tokens": self._config.max_output_tokens,
            "messages": [
                {"role": "system", "content": self._prompt},
                {"role": "user", "content": content},
            ],
        }
        if self._config.json_schema:
            schema = {"name": "boxes", "schema": self._schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    def _estimate_tokens(self, body: Mapping[str, Any]) -> float:
        words = len(self._prompt) + len(body["messages"][1]["content"][1]["text"])
        schema = len(json.dumps(body.get("response_format", "")))
        return self._config.tokens_per_image + TOKENS_PER_CHARACTER * (words + schema)


def _items(content: str) -> list[Any] | None:
    """Return the objects, not yet checked, in the text of an answer; None if it is no such JSON."""
    try:
        items = json.loads(json_part(content))["characters"]
    except (ValueError, LookupError, TypeError):
        return None
    return items if isinstance(items, list) else None


def _sightings(items: Sequence[Any], names: Sequence[str]) -> Sightings:
    """Join an answer to the names by number; each object is checked alone."""
    boxes: dict[str, Box] = {}
    not_found: dict[str, str] = {}
    for number, name in enumerate(names, start=1):
        own = [item for item in items if isinstance(item, dict) and item.get("number") == number]
        told = _box(own[0]) if len(own) == 1 else f"the answer tells of it {len(own)} times"
        if isinstance(told, str):
            not_found[name] = told
        else:
            boxes[name] = told
    return Sightings(boxes, not_found)


def _box(item: Mapping[str, Any]) -> Box | str:
    """Return the box in fractions of the frame, or why there is none."""
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
