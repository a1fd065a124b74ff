"""Captions from any OpenAI-compatible multimodal endpoint (vLLM, SGLang, Gemini, OpenAI).

One request describes a whole scene: the labelled keyframes of every shot go in, one JSON object
comes out. Knows nothing about the questions (questions.py) or how requests are retried and paid
(pipelines/llm).
"""

from __future__ import annotations

from pipelines.curation.captioners.base import CaptionContext
from pipelines.curation.captioners.chat import ChatCaptioner
from pipelines.curation.captioners.questions import Question
from pipelines.llm.endpoint import Endpoint
from pipelines.llm.usage import Usage


class OpenAiCaptioner(ChatCaptioner):
    """Asks an endpoint; a missing key is a ConfigError."""

    def __init__(self, context: CaptionContext) -> None:
        super().__init__(context, self._send)
        self._endpoint = Endpoint(
            context.config,
            tokens_per_image=context.config.tokens_per_image,
            share=context.share,
            budget=context.budget,
        )

    async def _send(self, question: Question) -> tuple[str, Usage]:
        return await self._endpoint.ask(question.messages, question.schema)
