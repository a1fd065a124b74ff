"""Captions from any OpenAI-compatible multimodal endpoint (vLLM, SGLang, Gemini, OpenAI).

One request describes a whole scene: labelled keyframes of every shot go in, one JSON object comes
out. Answers are kept by the content of the question, so a rerun asks nothing twice. How requests
are sent, repeated and paid for stands in endpoint.py.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fw_model.errors import StorageError
from fw_model.schema import CaptionReason
from pipelines.captioners.base import (
    CaptionContext,
    Entity,
    SceneCaption,
    SceneView,
    ShotCaption,
    Usage,
)
from pipelines.captioners.endpoint import TOKENS_PER_CHARACTER, Endpoint, GivenUp, json_part
from pipelines.storage import Store

PROMPT_FILE = Path(__file__).parent.parent / "prompts" / "scene_caption.md"


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
        rate = config.requests_per_minute
        self._endpoint = Endpoint(
            config,
            requests_per_minute=None if rate is None else rate * context.share,
            budget_usd=context.budget_usd,
        )

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
            content, usage = await self._endpoint.ask(body, self._estimate_tokens(body, scene))
        except GivenUp as fault:
            return SceneCaption(
                reason=fault.reason, detail=fault.detail, usage=fault.usage, cache_key=key
            )
        try:
            answer = SceneAnswer.model_validate_json(json_part(content))
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

    def _estimate_tokens(self, body: Mapping[str, Any], scene: SceneView) -> float:
        pictures = sum(len(shot.keyframe_uris) for shot in scene.shots)
        words = len(self._prompt) + sum(
            len(part.get("text", "")) for part in body["messages"][1]["content"]
        )
        schema = len(json.dumps(body.get("response_format", "")))
        return pictures * self._config.tokens_per_image + TOKENS_PER_CHARACTER * (words + schema)


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
