"""A captioner that asks a multimodal model, and caches and parses its answers.

Every answer, good or bad, is cached under the content of its question, so no question is asked
twice. Knows nothing about how a question reaches the model: see openai.py and ray_llm.py.
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
from pipelines.curation.captioners.base import CaptionContext, SceneCaption, SceneView, Verdict
from pipelines.curation.captioners.questions import (
    Question,
    SceneAnswer,
    SceneQuestions,
    VerdictAnswer,
    load_prompts,
    to_caption,
)
from pipelines.llm.endpoint import Failure, NoAnswer
from pipelines.llm.messages import json_part
from pipelines.llm.usage import Usage

logger = logging.getLogger(__name__)

AnswerT = TypeVar("AnswerT", bound=BaseModel)

Ask = Callable[[Question], Awaitable[tuple[str, Usage]]]
"""Asks a model a question; returns the text of the answer and its cost, or raises NoAnswer."""

VERDICT_ATTEMPTS = 2
QUOTED_CHARACTERS = 160

REASONS = {
    Failure.EXHAUSTED: CaptionReason.ENDPOINT_EXHAUSTED,
    Failure.OVER_BUDGET: CaptionReason.BUDGET_EXHAUSTED,
    # This says nothing about the scene: the next run asks again, with the right key.
    Failure.NO_ACCESS: CaptionReason.ENDPOINT_EXHAUSTED,
    Failure.REQUEST_REFUSED: CaptionReason.REFUSED,
    Failure.MODEL_REFUSED: CaptionReason.REFUSED,
    Failure.INVALID: CaptionReason.INVALID,
}


class MalformedAnswer(Exception):
    """An answer that is not the JSON asked for; the message says what is wrong and where."""


class ChatCaptioner:
    """Describes scenes, and verifies descriptions, by asking a model."""

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
            make_question = partial(self._questions.caption, scene, complaints)
            content, usage = await self._answer(key, make_question)
            caption = to_caption(read_answer(content, SceneAnswer), scene)
        except StorageError as error:
            return SceneCaption(reason=CaptionReason.MEDIA_MISSING, detail=str(error))
        except MalformedAnswer as error:
            # Without shots it fails the checks, so the scene is refined instead of rejected.
            return SceneCaption(usage=usage, cache_key=key, detail=str(error))
        except NoAnswer as error:
            reason = None if error.failure is Failure.INVALID else REASONS[error.failure]
            return SceneCaption(
                reason=reason, detail=error.detail, usage=error.usage, cache_key=key
            )
        return replace(caption, usage=usage, cache_key=key)

    async def verify(self, scene: SceneView, caption: SceneCaption) -> Verdict:
        usage, detail = Usage(), ""
        for attempt in range(VERDICT_ATTEMPTS):
            key = self._questions.verdict_key(scene, caption, attempt)
            try:
                make_question = partial(self._questions.verdict, scene, caption, attempt)
                content, cost = await self._answer(key, make_question)
                usage = usage.plus(cost)
                return Verdict(_problems(read_answer(content, VerdictAnswer), scene), usage)
            except StorageError as error:
                return Verdict((), usage, CaptionReason.MEDIA_MISSING, str(error))
            except MalformedAnswer as error:
                detail = f"the verdict is {error}"
            except NoAnswer as error:
                usage = usage.plus(error.usage)
                return Verdict((), usage, REASONS[error.failure], error.detail)
        return Verdict((), usage, CaptionReason.INVALID, detail)

    async def _answer(self, key: str, make_question: Callable[[], Question]) -> tuple[str, Usage]:
        """Return the answer cached under `key`; without one, ask and cache the answer.

        The store is called in threads, so that a slow store does not block the other scenes.
        """
        cached = await asyncio.to_thread(self._store.read_if_there, key)
        if cached is not None:
            return str(json.loads(cached)["content"]), self._cached_usage(key)
        content, usage = await self._ask(await asyncio.to_thread(make_question))
        try:
            await asyncio.to_thread(cache_answer, self._store.write, key, content)
        except StorageError as error:  # the answer is paid for, and still goes into its row
            logger.warning("cannot cache an answer, so asking again will cost again: %s", error)
        return content, usage

    def _cached_usage(self, key: str) -> Usage:
        """Return what this run paid for a cached answer: nothing."""
        return Usage()


def cache_answer(write: Callable[[str, bytes], None], key: str, content: str) -> None:
    """Write the text of an answer to its question's `key`."""
    write(key, json.dumps({"content": content}).encode())


def read_answer(content: str, answer: type[AnswerT]) -> AnswerT:
    """Parse the text of an answer; MalformedAnswer says what is wrong and quotes it."""
    try:
        return answer.model_validate_json(json_part(content))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the top"
        raise MalformedAnswer(
            f"not the JSON asked for: {first['msg']} at {where} in {content[:QUOTED_CHARACTERS]!r}"
        ) from error


def _problems(verdict: VerdictAnswer, scene: SceneView) -> tuple[str, ...]:
    """Return the problem of each shot, "" if none; MalformedAnswer if a shot has no verdict."""
    by_number = {shot.shot: shot for shot in verdict.shots}
    numbers = range(1, len(scene.shots) + 1)
    missing = [number for number in numbers if number not in by_number]
    if missing:
        raise MalformedAnswer(f"incomplete: shots {missing} are not judged")
    return tuple(
        "" if by_number[n].fits else by_number[n].problem.strip() or "does not fit" for n in numbers
    )
