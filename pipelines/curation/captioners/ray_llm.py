"""Captions from a model that runs on the cluster itself: what its engine said is read here.

ray.data.llm turns a dataset of questions into a dataset of answers, so it cannot be asked from
inside an operator. captioning/vllm_rounds.py collects the open questions, has them answered
together, and keeps the answers; this captioner finds them by the content of the question. Nothing
here imports vLLM or Ray.
"""

from __future__ import annotations

from fw_model.schemas.curated import CaptionReason
from pipelines.curation.captioners.base import CaptionContext, Usage
from pipelines.curation.captioners.chat import ChatCaptioner
from pipelines.curation.captioners.endpoint import GivenUp
from pipelines.curation.captioners.questions import Question

UNFIT_FOR_ENGINE = ("ValueError", "TypeError")


class RayLlmCaptioner(ChatCaptioner):
    """Reads answers; a question without one is put into `open_questions`."""

    def __init__(self, context: CaptionContext) -> None:
        super().__init__(context, self._miss)
        self._answers = context.answers
        self.open_questions: list[Question] = []

    async def _miss(self, question: Question) -> tuple[str, Usage]:
        answer = self._answers.get(question.key)
        if answer is None:
            self.open_questions.append(question)
            raise GivenUp(CaptionReason.ENDPOINT_EXHAUSTED, "the engine gave no answer")
        # What the engine will not take, such as too long a prompt, it will not take tomorrow.
        is_unfit = answer.error.startswith(UNFIT_FOR_ENGINE)
        reason = CaptionReason.REFUSED if is_unfit else CaptionReason.ENDPOINT_EXHAUSTED
        raise GivenUp(reason, f"the engine failed: {answer.error}", Usage(requests=1))

    def _kept_usage(self, key: str) -> Usage:
        answer = self._answers.get(key)
        if answer is None:
            return Usage()
        return Usage(1, answer.prompt_tokens, answer.output_tokens)
