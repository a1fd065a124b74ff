"""What captioning will cost: requests, tokens and money, each between a low and a high bound.

Low: every scene is described well at the first attempt, in short texts. High: every scene is
refined as often as allowed, and every answer is as long as allowed. Requests repeated because of
endpoint faults come on top. A scene whose first question has a cached answer costs nothing and is
counted separately.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from pipelines.curation.captioners.base import SceneView
from pipelines.curation.captioners.chat import VERDICT_ATTEMPTS
from pipelines.curation.captioners.questions import SceneAnswer, load_prompts
from pipelines.curation.config import CaptionerConfig, ValidationConfig
from pipelines.llm.messages import IMAGE_TEMPLATE_TOKENS, text_token_bound

BYTES_PER_TOKEN = 4.0  # in plain English
LOW_TOKENS_PER_SHOT = 40
LOW_TOKENS_PER_SCENE = 60


@dataclass(frozen=True)
class CaptionEstimate:
    """Bounds on the requests of one run. `scenes` must be asked about, `scenes_answered` need not
    be."""

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
        """Return the sum of both."""
        mine, theirs = asdict(self), asdict(other)
        return CaptionEstimate(**{name: mine[name] + theirs[name] for name in mine})

    def sentence(self, budget_left_usd: float | None) -> str:
        """Return the estimate as a log line."""
        words = (
            f"Captions: {self.scenes:,} scenes to ask about ({self.scenes_answered:,} more have "
            f"cached answers), {self.requests_low:,} to {self.requests_high:,} requests, "
            f"{self.input_tokens_low:,} to {self.input_tokens_high:,} input and "
            f"{self.output_tokens_low:,} to {self.output_tokens_high:,} output tokens, "
            f"{self.usd_low:.2f} to {self.usd_high:.2f} USD."
        )
        if budget_left_usd is not None:
            words += f" {budget_left_usd:.2f} USD of the budget is left"
            words += ", which may not be enough." if budget_left_usd < self.usd_high else "."
        return words


def estimate_captions(
    scenes: Iterable[tuple[SceneView, bool]], config: CaptionerConfig, validation: ValidationConfig
) -> CaptionEstimate:
    """Add up the scenes; each comes with whether its first question has a cached answer."""
    prompts = load_prompts(config, validation)
    caption, verdict = prompts.caption, prompts.verdict
    schema = SceneAnswer.model_json_schema() if config.json_schema else None
    # Every good caption needs a verdict if those are wanted, and a verdict may be asked twice.
    low = 2 if verdict else 1
    high = (1 + validation.refinements) * (1 + VERDICT_ATTEMPTS * bool(verdict))
    words_low = len(caption + verdict) / BYTES_PER_TOKEN / low
    words_high = max(text_token_bound(caption, schema), text_token_bound(verdict, schema))
    total = CaptionEstimate()
    for scene, is_answered in scenes:
        if is_answered:
            total = total.plus(CaptionEstimate(scenes_answered=1))
            continue
        num_images = sum(len(shot.keyframe_uris) for shot in scene.shots)
        input_low = int(words_low + num_images * config.tokens_per_image)
        input_high = words_high + num_images * (config.tokens_per_image + IMAGE_TEMPLATE_TOKENS)
        output_low = LOW_TOKENS_PER_SCENE + LOW_TOKENS_PER_SHOT * len(scene.shots)
        output_low = min(output_low, config.max_output_tokens)
        scene_cost = CaptionEstimate(
            scenes=1,
            requests_low=low,
            requests_high=high,
            input_tokens_low=low * input_low,
            input_tokens_high=high * input_high,
            output_tokens_low=low * output_low,
            output_tokens_high=high * config.max_output_tokens,
            usd_low=low * config.price_usd(input_low, output_low),
            usd_high=high * config.price_usd(input_high, config.max_output_tokens),
        )
        total = total.plus(scene_cost)
    return total
