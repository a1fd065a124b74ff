"""Captions from any OpenAI-compatible multimodal endpoint (vLLM, SGLang, Gemini, OpenAI).

One request describes a whole scene: labelled keyframes of every shot go in, one JSON object comes
out. What is asked stands in questions.py; how requests are sent, repeated and paid for in
endpoint.py.
"""

from __future__ import annotations

from typing import Any

from pipelines.curation.captioners.base import CaptionContext, Usage
from pipelines.curation.captioners.chat import ChatCaptioner
from pipelines.curation.captioners.endpoint import Endpoint
from pipelines.curation.captioners.questions import Question
from pipelines.curation.config import CaptionerConfig


class OpenAiCaptioner(ChatCaptioner):
    """Asks an endpoint; a missing key is a ConfigError."""

    def __init__(self, context: CaptionContext) -> None:
        super().__init__(context, self._send)
        self._config = context.config
        rate = context.config.requests_per_minute
        self._endpoint = Endpoint(
            context.config,
            requests_per_minute=None if rate is None else rate * context.share,
            budget_usd=context.config.budget_usd,
            purse=context.purse,
        )

    async def _send(self, question: Question) -> tuple[str, Usage]:
        return await self._endpoint.ask(_body(self._config, question), question.input_tokens)


def _body(config: CaptionerConfig, question: Question) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": config.model,
        "temperature": 0,
        "max_tokens": question.max_tokens,
        "messages": question.messages,
    }
    if config.json_schema:
        schema = {"name": "scene", "schema": question.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body
