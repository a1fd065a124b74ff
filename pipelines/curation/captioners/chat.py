"""A captioner that talks to a multimodal model: asks, keeps the answer, reads it.

Answers are kept by the content of the question, whatever they say, so nothing is asked twice. Who
carries a question to the model and back is given from outside: see openai.py and ray_llm.py.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from fw_model.errors import StorageError
from fw_model.schemas.curated import CaptionReason
from pipelines.curation.captioners.base import (
    CaptionContext,
    SceneCaption,
    SceneView,
    Usage,
    Verdict,
)
from pipelines.curation.captioners.endpoint import AccessRefused, GivenUp, json_part
from pipelines.curation.captioners.questions import (
    Question,
    SceneAnswer,
    SceneQuestions,
    VerdictAnswer,
    load_prompts,
    to_caption,
)

logger = logging.getLogger(__name__)

AnswerT = TypeVar("AnswerT", bound=BaseModel)

Ask = Callable[[Question], Awaitable[tuple[str, Usage]]]
"""Carries a question to a model: the text of its answer and the price; GivenUp without one."""

VERDICT_ATTEMPTS = 2
QUOTED = 160


class NotTheJson(Exception):
    """An answer that is not what was asked for; says what and where."""


class ChatCaptioner:
    """Describes scenes, and judges descriptions, by asking a model."""

    is_guess = True

    def __init__(self, context: CaptionContext, ask: Ask) -> None:
        self._store = context.store
        prompts = context.prompts or load_prompts(context.config, context.validation)
        self._questions = SceneQuestions(context.config, prompts)
        self._ask = ask
        self.model = context.config.model
        self.prompt_version = self._questions.prompt_version

    async def caption(self, scene: SceneView, complaints: Sequence[str] = ()) -> SceneCaption:
        key = self._questions.caption_key(scene, complaints)
        usage = Usage()
        try:
            make = partial(self._questions.caption, scene, complaints)
            content, usage = await self._content(key, make)
            told = to_caption(read_answer(content, SceneAnswer), scene)
        except StorageError as fault:
            return SceneCaption(reason=CaptionReason.MEDIA_MISSING, detail=str(fault))
        except NotTheJson as fault:
            # No shots at all fails every check, so the answer is asked for once more.
            return SceneCaption(usage=usage, cache_key=key, detail=str(fault))
        except GivenUp as fault:
            reason = None if fault.reason == CaptionReason.INVALID else _reason(fault)
            return SceneCaption(
                reason=reason, detail=fault.detail, usage=fault.usage, cache_key=key
            )
        return replace(told, usage=usage, cache_key=key)

    async def judge(self, scene: SceneView, caption: SceneCaption) -> Verdict:
        usage, detail = Usage(), ""
        for attempt in range(VERDICT_ATTEMPTS):
            key = self._questions.verdict_key(scene, caption, attempt)
            try:
                make = partial(self._questions.verdict, scene, caption, attempt)
                content, cost = await self._content(key, make)
                usage = usage.plus(cost)
                return Verdict(_problems(read_answer(content, VerdictAnswer), scene), usage)
            except StorageError as fault:
                return Verdict((), usage, CaptionReason.MEDIA_MISSING, str(fault))
            except NotTheJson as fault:
                detail = f"the verdict is {fault}"
            except GivenUp as fault:
                return Verdict((), usage.plus(fault.usage), _reason(fault), fault.detail)
        return Verdict((), usage, CaptionReason.INVALID, detail)

    async def _content(self, key: str, question: Callable[[], Question]) -> tuple[str, Usage]:
        """Return the answer that is kept under `key`, else ask and keep it.

        The store is waited for in threads: a slow one must not hold up the other scenes.
        """
        if await asyncio.to_thread(self._store.exists, key):
            kept = await asyncio.to_thread(self._store.read, key)
            return str(json.loads(kept)["content"]), self._kept_usage(key)
        content, usage = await self._ask(await asyncio.to_thread(question))
        try:
            await asyncio.to_thread(keep_answer, self._store.write_once, key, content)
        except StorageError as fault:  # it is paid for and goes into its row all the same
            logger.warning("an answer could not be kept; asked again, it costs again: %s", fault)
        return content, usage

    def _kept_usage(self, key: str) -> Usage:
        """Return what a kept answer costs now: nothing."""
        return Usage()


def keep_answer(write: Callable[[str, bytes], None], key: str, content: str) -> None:
    """Keep the text of an answer under its question's `key`."""
    write(key, json.dumps({"content": content}).encode())


def read_answer(content: str, answer: type[AnswerT]) -> AnswerT:
    """Return the object in the text of an answer; NotTheJson with the place and the text."""
    try:
        return answer.model_validate_json(json_part(content))
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the top"
        raise NotTheJson(
            f"not the JSON: {first['msg']} at {where} in {content[:QUOTED]!r}"
        ) from fault


def _problems(verdict: VerdictAnswer, scene: SceneView) -> tuple[str, ...]:
    """Return what is wrong with each shot, "" where nothing is. Unjudged shots are not let pass."""
    by_number = {shot.shot: shot for shot in verdict.shots}
    numbers = range(1, len(scene.shots) + 1)
    missing = [number for number in numbers if number not in by_number]
    if missing:
        raise NotTheJson(f"without a word on shots {missing}")
    return tuple(
        "" if by_number[n].fits else by_number[n].problem.strip() or "does not fit" for n in numbers
    )


def _reason(fault: GivenUp) -> CaptionReason:
    """Return why there is no answer; a wrong key says nothing of the scene, so it passes."""
    is_ours = isinstance(fault, AccessRefused)
    return CaptionReason.ENDPOINT_EXHAUSTED if is_ours else fault.reason
