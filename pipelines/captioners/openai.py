"""Captions from any OpenAI-compatible multimodal endpoint (vLLM, SGLang, Gemini, OpenAI).

One request describes a whole scene: labelled keyframes of every shot go in, one JSON object comes
out. Answers are kept by the content of the question, so a rerun asks nothing twice; the budget is
reserved before a request is sent, so it is never exceeded; a busy endpoint is waited for as long as
it asks.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import logging
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fw_model.errors import ConfigError, StorageError
from fw_model.schema import CaptionReason
from pipelines.captioners.base import (
    CaptionContext,
    Entity,
    SceneCaption,
    SceneView,
    ShotCaption,
    Usage,
)
from pipelines.captioners.limits import Budget, RateLimit
from pipelines.storage import Store

logger = logging.getLogger(__name__)

PROMPT_FILE = Path(__file__).parent.parent / "prompts" / "scene_caption.md"
TOKENS_PER_CHARACTER = 0.5  # an overestimate: a reservation must never be too small
RETRIED_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _EntityAnswer(_Answer):
    id: str
    name: str
    attributes: str = ""


class _ShotAnswer(_Answer):
    shot: int = Field(ge=1)
    text: str
    framing: str = ""
    entity_ids: list[str] = Field(default_factory=list)


class SceneAnswer(_Answer):
    """What the endpoint is asked for; its JSON schema is sent along."""

    entities: list[_EntityAnswer] = Field(default_factory=list)
    style: str = ""
    shots: list[_ShotAnswer]


class _GivenUp(Exception):
    """There will be no answer."""

    def __init__(self, reason: CaptionReason, detail: str, usage: Usage | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.usage = usage or Usage()


class OpenAiCaptioner:
    """Asks an endpoint; `CAPTION` faults come back as reasons, a missing key is a ConfigError."""

    def __init__(self, context: CaptionContext) -> None:
        config = context.config
        self._config = config
        self._store = context.store
        self._prompt = PROMPT_FILE.read_text(encoding="utf-8")
        self.model = config.model
        digest = hashlib.sha256(self._prompt.encode())
        digest.update(json.dumps(SceneAnswer.model_json_schema(), sort_keys=True).encode())
        self.prompt_version = f"scene-{digest.hexdigest()[:8]}"
        self._budget = Budget(context.budget_usd)
        rate = config.requests_per_minute
        self._rate = RateLimit(None if rate is None else rate * context.share)
        self._headers = _headers(config.api_key_env, config.base_url)

    async def caption(self, scene: SceneView, complaints: Sequence[str] = ()) -> SceneCaption:
        key = self._cache_key(scene, complaints)
        kept = _read_cache(self._store, key)
        if kept is not None:
            return _to_caption(kept, scene, Usage(), key)
        try:
            body = self._body(scene, complaints)
        except StorageError as fault:
            return SceneCaption(reason=CaptionReason.MEDIA_MISSING, detail=str(fault))
        try:
            content, usage = await self._ask(body, scene)
        except _GivenUp as fault:
            return SceneCaption(
                reason=fault.reason, detail=fault.detail, usage=fault.usage, cache_key=key
            )
        try:
            answer = SceneAnswer.model_validate_json(_json_part(content))
        except ValidationError as fault:
            # No shots at all fails every check, so the answer is asked for once more.
            first = fault.errors()[0]
            detail = f"{first['msg']} at {'.'.join(map(str, first['loc'])) or 'the top'}"
            return SceneCaption(usage=usage, cache_key=key, detail=f"not the JSON: {detail}")
        self._store.write_once(key, answer.model_dump_json().encode())
        return _to_caption(answer, scene, usage, key)

    def _cache_key(self, scene: SceneView, complaints: Sequence[str]) -> str:
        asked = [
            self.model,
            self.prompt_version,
            self._config.max_output_tokens,
            [shot.keyframe_sha256s for shot in scene.shots],
            list(complaints),
        ]
        digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        return f"ledger/answers/{digest[:2]}/{digest}.json"

    def _body(self, scene: SceneView, complaints: Sequence[str]) -> dict[str, Any]:
        content: list[dict[str, Any]] = []
        for number, shot in enumerate(scene.shots, start=1):
            content.append({"type": "text", "text": f"Shot {number}, {shot.duration_s:.1f} s:"})
            for jpeg in scene.jpegs(shot):
                data = base64.b64encode(jpeg).decode("ascii")
                url = {"url": f"data:image/jpeg;base64,{data}"}
                content.append({"type": "image_url", "image_url": url})
        ask = f"Describe these {len(scene.shots)} shots."
        if complaints:
            ask += " An earlier answer was refused. Correct this: " + "; ".join(complaints)
        content.append({"type": "text", "text": ask})
        body: dict[str, Any] = {
            "model": self.model,
            "temperature": 0,
            "max_tokens": self._config.max_output_tokens,
            "messages": [
                {"role": "system", "content": self._prompt},
                {"role": "user", "content": content},
            ],
        }
        if self._config.json_schema:
            schema = {"name": "scene", "schema": SceneAnswer.model_json_schema()}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body

    async def _ask(self, body: Mapping[str, Any], scene: SceneView) -> tuple[str, Usage]:
        """Return the answer's text and its price; _GivenUp after the last attempt."""
        config = self._config
        reserved = self._price(self._estimate_tokens(body, scene), config.max_output_tokens)
        last = "no attempt was made"
        async with httpx.AsyncClient(timeout=config.timeout_s, headers=self._headers) as client:
            for attempt in range(1, config.max_attempts + 1):
                if not self._budget.reserve(reserved):
                    raise _GivenUp(
                        CaptionReason.BUDGET_EXHAUSTED, f"a request may cost {reserved:.4f} USD"
                    )
                await self._rate.wait()
                wait_s: float | None = None
                spent = 0.0
                try:
                    url = f"{config.base_url.rstrip('/')}/chat/completions"
                    response = await client.post(url, json=body)
                    if response.status_code == 200:
                        content, usage = self._read(response, attempt)
                        spent = usage.cost_usd
                        return content, usage
                    last = f"HTTP {response.status_code}: {response.text[:200]}"
                    if response.status_code not in RETRIED_STATUS:
                        raise _GivenUp(CaptionReason.REFUSED, last, Usage(requests=attempt))
                    wait_s = _retry_after_s(response)
                except httpx.TransportError as fault:
                    # Whether the endpoint worked on it is unknown; charge it, to stay below.
                    last, spent = f"{type(fault).__name__}: {fault}", reserved
                except _GivenUp as fault:
                    spent = fault.usage.cost_usd
                    raise
                finally:
                    self._budget.settle(reserved, spent)
                if attempt < config.max_attempts:
                    await asyncio.sleep(self._pause_s(attempt, wait_s))
        raise _GivenUp(
            CaptionReason.ENDPOINT_EXHAUSTED,
            f"{config.max_attempts} attempts failed, last {last}",
            Usage(requests=config.max_attempts),
        )

    def _read(self, response: httpx.Response, attempt: int) -> tuple[str, Usage]:
        try:
            tree = response.json()
            message = tree["choices"][0]["message"]
            told = tree.get("usage") or {}
            prompt_tokens = int(told.get("prompt_tokens", 0))
            output_tokens = int(told.get("completion_tokens", 0))
        except (ValueError, LookupError, TypeError) as fault:
            detail = f"the endpoint's answer has no message: {response.text[:200]}"
            raise _GivenUp(CaptionReason.INVALID, detail, Usage(requests=attempt)) from fault
        usage = Usage(
            attempt, prompt_tokens, output_tokens, self._price(prompt_tokens, output_tokens)
        )
        if message.get("refusal") or not message.get("content"):
            refusal = message.get("refusal") or "the endpoint said nothing"
            raise _GivenUp(CaptionReason.REFUSED, str(refusal)[:500], usage)
        return str(message["content"]), usage

    def _price(self, input_tokens: float, output_tokens: float) -> float:
        config = self._config
        return (
            input_tokens * config.usd_per_million_input_tokens
            + output_tokens * config.usd_per_million_output_tokens
        ) / 1e6

    def _estimate_tokens(self, body: Mapping[str, Any], scene: SceneView) -> float:
        pictures = sum(len(shot.keyframe_uris) for shot in scene.shots)
        words = len(self._prompt) + sum(
            len(part.get("text", "")) for part in body["messages"][1]["content"]
        )
        schema = len(json.dumps(body.get("response_format", "")))
        return pictures * self._config.tokens_per_image + TOKENS_PER_CHARACTER * (words + schema)

    def _pause_s(self, attempt: int, wait_s: float | None) -> float:
        """Return what the endpoint asked for, else a doubling pause with some chance in it."""
        if wait_s is None:
            wait_s = 0.5 * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
        return min(wait_s, self._config.max_retry_wait_s)


def _headers(key_variable: str, base_url: str) -> dict[str, str]:
    key = os.environ.get(key_variable)
    is_local = any(host in base_url for host in ("127.0.0.1", "localhost", "[::1]"))
    if key is None and not is_local:
        raise ConfigError(
            f"{base_url} needs a key; put it into the environment variable {key_variable}."
        )
    return {} if key is None else {"Authorization": f"Bearer {key}"}


def _retry_after_s(response: httpx.Response) -> float | None:
    """Return the Retry-After header in seconds, None if there is none that can be read."""
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def _json_part(content: str) -> str:
    """Return the object inside `content`: some models wrap it in a code fence or in words."""
    start, end = content.find("{"), content.rfind("}")
    return content[start : end + 1] if 0 <= start < end else content


def _read_cache(store: Store, key: str) -> SceneAnswer | None:
    return SceneAnswer.model_validate_json(store.read(key)) if store.exists(key) else None


def _to_caption(answer: SceneAnswer, scene: SceneView, usage: Usage, key: str) -> SceneCaption:
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
    entities = tuple(Entity(e.id, e.name, e.attributes) for e in answer.entities)
    return SceneCaption(shots, entities, answer.style, usage, key)
