"""Captions from a model that runs on the cluster itself: this captioner reads its responses.

ray.data.llm turns a dataset of questions into a dataset of responses, so an operator cannot ask it.
captioning/vllm_rounds.py therefore collects the open questions, has them answered together and
caches the answers; this captioner finds them by their question. Imports neither vLLM nor Ray.
"""

from __future__ import annotations

from pipelines.curation.captioners.base import CaptionContext
from pipelines.curation.captioners.chat import ChatCaptioner
from pipelines.curation.captioners.questions import Question
from pipelines.llm.endpoint import Failure, NoAnswer
from pipelines.llm.usage import Usage

REJECTED_BY_ENGINE = ("ValueError", "TypeError")


class RayLlmCaptioner(ChatCaptioner):
    """Reads cached answers; a question without one is added to `open_questions`."""

    def __init__(self, context: CaptionContext) -> None:
        super().__init__(context, self._miss)
        self._responses = context.responses
        self.open_questions: list[Question] = []

    async def _miss(self, question: Question) -> tuple[str, Usage]:
        response = self._responses.get(question.key)
        if response is None:
            self.open_questions.append(question)
            raise NoAnswer(Failure.EXHAUSTED, "the engine gave no answer")
        # Asking again is useless if the engine rejects the question, e.g. as too long.
        is_rejected = response["error"].startswith(REJECTED_BY_ENGINE)
        failure = Failure.REQUEST_REFUSED if is_rejected else Failure.EXHAUSTED
        raise NoAnswer(failure, f"the engine failed: {response['error']}", Usage(requests=1))

    def _cached_usage(self, key: str) -> Usage:
        response = self._responses.get(key)
        if response is None:
            return Usage()
        return Usage(1, response["prompt_tokens"], response["output_tokens"])
