"""What captioning will cost, before it starts: requests, tokens and money, between low and high.

Low: every scene is described well at the first attempt, in short texts. High: every scene is
refined as often as is allowed and every answer is as long as is allowed. Requests that are lost to
a faulty endpoint come on top. A scene whose question was answered before costs nothing at its
first attempt, and is not counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from pipelines.curation.captioners.base import SceneView
from pipelines.curation.captioners.chat import VERDICT_ATTEMPTS
from pipelines.curation.captioners.questions import (
    PICTURE_TEMPLATE_TOKENS,
    SceneAnswer,
    load_prompts,
    text_tokens,
)
from pipelines.curation.config import CaptionerConfig, ValidationConfig

BYTES_PER_TOKEN = 4.0  # of plain English
LOW_TOKENS_PER_SHOT = 40
LOW_TOKENS_PER_SCENE = 60


@dataclass(frozen=True)
class CaptionEstimate:
    """Bounds on the work of one run; `scenes` are those that must be asked about."""

    scenes: int = 0
    scenes_answered: int = 0
    requests_low: int = 0
    requests_high: int = 0
    input_tokens_low: int = 0
    input_tokens_high: int = 0
    output_tokens_low: int = 0
    output_tokens_high: int = 0
    usd_low: float = 0.0
    usd_high: float = 0.0

    def plus(self, other: CaptionEstimate) -> CaptionEstimate:
        """Return both together."""
        mine, theirs = asdict(self), asdict(other)
        return CaptionEstimate(**{name: mine[name] + theirs[name] for name in mine})

    def sentence(self, budget_left_usd: float | None) -> str:
        """Return the estimate in words."""
        told = (
            f"Captions: {self.scenes:,} scenes to ask about ({self.scenes_answered:,} are answered "
            f"already), {self.requests_low:,} to {self.requests_high:,} requests, "
            f"{self.input_tokens_low:,} to {self.input_tokens_high:,} input and "
            f"{self.output_tokens_low:,} to {self.output_tokens_high:,} output tokens, "
            f"{self.usd_low:.2f} to {self.usd_high:.2f} USD."
        )
        if budget_left_usd is not None:
            told += f" Of the budget {budget_left_usd:.2f} USD are left"
            told += ", which may not suffice." if budget_left_usd < self.usd_high else "."
        return told


def estimate_captions(
    scenes: Iterable[tuple[SceneView, bool]], config: CaptionerConfig, validation: ValidationConfig
) -> CaptionEstimate:
    """Estimate the scenes, each with whether its first question was answered before."""
    costs = _SceneCosts(config, validation)
    total = CaptionEstimate()
    for scene, is_answered in scenes:
        total = total.plus(CaptionEstimate(scenes_answered=1) if is_answered else costs.of(scene))
    return total


class _SceneCosts:
    """What one scene costs under these settings."""

    def __init__(self, config: CaptionerConfig, validation: ValidationConfig) -> None:
        self._config = config
        prompts = load_prompts(config, validation)
        caption, verdict = prompts.caption, prompts.verdict
        schema = SceneAnswer.model_json_schema() if config.json_schema else None
        # With a verdict, every good answer is followed by one, and a verdict may be asked twice.
        self._requests_low = 2 if verdict else 1
        self._requests_high = (1 + validation.refinements) * (1 + VERDICT_ATTEMPTS * bool(verdict))
        self._words_low = len(caption + verdict) / BYTES_PER_TOKEN / self._requests_low
        self._words_high = max(text_tokens(caption, schema), text_tokens(verdict, schema))

    def of(self, scene: SceneView) -> CaptionEstimate:
        """Return the bounds of one scene that must be asked about."""
        config, num_shots = self._config, len(scene.shots)
        pictures = sum(len(shot.keyframe_uris) for shot in scene.shots)
        input_low = int(self._words_low + pictures * config.tokens_per_image)
        input_high = self._words_high + pictures * (
            config.tokens_per_image + PICTURE_TEMPLATE_TOKENS
        )
        output_low = LOW_TOKENS_PER_SCENE + LOW_TOKENS_PER_SHOT * num_shots
        low, high = self._requests_low, self._requests_high
        return CaptionEstimate(
            scenes=1,
            requests_low=low,
            requests_high=high,
            input_tokens_low=low * input_low,
            input_tokens_high=high * input_high,
            output_tokens_low=low * min(output_low, config.max_output_tokens),
            output_tokens_high=high * config.max_output_tokens,
            usd_low=low * self._usd(input_low, min(output_low, config.max_output_tokens)),
            usd_high=high * self._usd(input_high, config.max_output_tokens),
        )

    def _usd(self, input_tokens: float, output_tokens: float) -> float:
        config = self._config
        return (
            input_tokens * config.usd_per_million_input_tokens
            + output_tokens * config.usd_per_million_output_tokens
        ) / 1e6
