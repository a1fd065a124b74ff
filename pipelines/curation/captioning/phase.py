"""The caption phase of curation: which staged scenes need a caption, and what they will cost.

Logs an estimate of the price before it starts, gives all actors one budget, and asks only about
scenes without a final answer. Knows nothing about what is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from fw_model.config import load_yaml
from fw_model.registry import resolve
from fw_model.schemas.curated import CAPTIONS, PASSING_CAPTION_REASONS
from fw_model.schemas.curated_rows import CaptionRow
from pipelines.curation.captioners.base import CAPTIONERS, Prompts, SceneView
from pipelines.curation.captioners.chat import ChatCaptioner
from pipelines.curation.captioners.questions import ANSWERS, SceneQuestions, load_prompts
from pipelines.curation.captioners.ray_llm import RayLlmCaptioner
from pipelines.curation.captioners.sidecar import sidecar_state
from pipelines.curation.captioning.caption_loop import CAPTION_VERSION
from pipelines.curation.captioning.cost_estimate import CaptionEstimate, estimate_captions
from pipelines.curation.captioning.operators import ScenePart, scenes_of
from pipelines.curation.captioning.shared_budget import (
    RunRecord,
    SharedBudget,
    record_run,
    spent_before,
    spent_by,
)
from pipelines.curation.config import CurationConfig
from pipelines.curation.ledger.ledger import Entry, Ledger, config_hash
from pipelines.curation.ledger.receipts import Provenance
from pipelines.curation.ledger.tables import Part
from pipelines.storage.store import Store

logger = logging.getLogger(__name__)

RESERVATION_SLACK_S = 120.0  # on top of the longest request, because a busy actor settles late


def caption_ledger(store: Store, config: CurationConfig, analyzed: str) -> Ledger[CaptionRow]:
    """Return the ledger of captions made under these settings.

    `analyzed` is the hash of the settings that shots, keyframes and embeddings depend on. Changed
    keyframes need new captions, even of the same shots; unchanged keyframes cost nothing again,
    because an endpoint's answers are cached by question. All of the captioner's settings count
    except speed, price and address, and so does the content of the files that they name.
    """
    captioner, validation = config.captioner, config.validation
    worded = captioner.model_dump(include={"kind", "model", "max_output_tokens", "json_schema"})
    if captioner.vocabulary is not None:
        worded["vocabulary"] = load_yaml(captioner.vocabulary)
    if captioner.kind not in ("offline", "sidecar"):
        worded["prompts"] = asdict(load_prompts(captioner, validation))
        worded["engine"] = captioner.engine.engine_kwargs
    rules = validation.model_dump(exclude={"verdict_prompt"})
    settings = config_hash(CAPTION_VERSION, worded, rules, analyzed)
    return Ledger(store, "captioned", settings, CAPTIONS, "scene_id")


@dataclass(frozen=True)
class CaptionPhase:
    """The staged scenes without a final answer, their price and their budget."""

    config: CurationConfig
    store: Store
    ledger: Ledger[CaptionRow]
    provenance: Provenance

    def budget(self) -> SharedBudget:
        """Return what is left of the budget, for all actors of this run."""
        captioner = self.config.captioner
        timeout_s = RESERVATION_SLACK_S + 2 * captioner.timeout_s
        return SharedBudget(self.store, self.provenance.run_id, captioner.budget_usd, timeout_s)

    def asks_engine(self) -> bool:
        """Return whether a model on the cluster itself answers the questions."""
        config = self.config.captioner
        if resolve(config.kind, CAPTIONERS, "captioner") is not RayLlmCaptioner:
            return False
        if config.budget_usd is not None:
            logger.warning("curation.captioner.budget_usd has no effect: ray_llm costs no money")
        return True

    def prompts(self) -> Prompts:
        """Return the instructions to a model."""
        return load_prompts(self.config.captioner, self.config.validation)

    def pending(self, parts: Sequence[Part]) -> list[ScenePart]:
        """Return the scenes to caption, as rows of SCENE_PART."""
        known = self.ledger.entries(["reason", "cache_key"])
        scenes = [p for p in parts if p.table == "scenes"]
        shots = [p for p in parts if p.table == "shots"]
        pending: list[ScenePart] = []
        for scene_part, shot_part in zip(scenes, shots, strict=True):
            rows = self.store.read_table(scene_part.key, ["scene_id", "uri"]).to_pylist()
            entries = [known.get(row["scene_id"]) for row in rows]
            waiting = [
                (row["scene_id"], 1 + (entry.values["attempts"] if entry else 0))
                for row, entry in zip(rows, entries, strict=True)
                if entry is None or not self._lasts(entry, row["uri"])
            ]
            size = self.config.resources.scenes_per_commit
            pending += [
                {
                    "scenes_key": scene_part.key,
                    "shots_key": shot_part.key,
                    "scene_ids": [scene_id for scene_id, _ in waiting[i : i + size]],
                    "attempts": [attempts for _, attempts in waiting[i : i + size]],
                }
                for i in range(0, len(waiting), size)
            ]
        return pending

    def _lasts(self, caption: Entry, uri: str) -> bool:
        """Return whether asking again would give the same answer for a scene of the video `uri`."""
        reason, again = caption.values["reason"], self.config.retry_rejected
        if reason in PASSING_CAPTION_REASONS:
            return False
        if reason is not None and ("all" in again or reason in again):
            return False
        is_sidecar = self.config.captioner.kind == "sidecar"
        return not is_sidecar or caption.values["cache_key"] == sidecar_state(uri)

    def estimate(self, pending: Sequence[ScenePart]) -> CaptionEstimate | None:
        """Estimate what the pending scenes will cost; None for a captioner that costs nothing."""
        config = self.config.captioner
        captioner = resolve(config.kind, CAPTIONERS, "captioner")
        if not (isinstance(captioner, type) and issubclass(captioner, ChatCaptioner)):
            return None
        estimate = estimate_captions(self._asked(pending), config, self.config.validation)
        left = None
        if config.budget_usd is not None:
            left = max(0.0, config.budget_usd - spent_before(self.store))
        logger.info(estimate.sentence(left))
        return estimate

    def record(self, num_scenes: int, estimate: CaptionEstimate) -> None:
        """Record what this run was expected to cost and what it did cost, for the report."""
        run_id, columns = self.provenance.run_id, ("requests", "prompt_tokens", "output_tokens")
        rows = self.ledger.every_row(["run_id", *columns])
        mine = [row.values for row in rows if row.values["run_id"] == run_id]
        record_run(
            self.store,
            RunRecord(
                run_id=run_id,
                created_at=self.provenance.stamp()["created_at"],
                num_scenes=num_scenes,
                estimate=estimate,
                cost_usd=spent_by(self.store, run_id),
                **{name: sum(values[name] for values in mine) for name in columns},
            ),
        )

    def _asked(self, pending: Sequence[ScenePart]) -> Iterator[tuple[SceneView, bool]]:
        """Yield the pending scenes, each with whether its first question has a cached answer."""
        questions = SceneQuestions(self.config.captioner, self.prompts())
        answered = frozenset(self.store.keys(ANSWERS, ".json"))
        for part in pending:
            for scene in scenes_of(part, self.store):
                yield scene, questions.caption_key(scene) in answered
