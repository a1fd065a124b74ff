"""The caption phase of curation: which staged scenes need a caption, and what they will cost.

Logs an estimate of the price before it starts, gives all actors one budget, and asks only about
scenes without a final answer. Knows nothing about what is asked.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
from pipelines.curation.captioning.operators import SCENE_PART, ScenePart, scenes_of
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
from pipelines.curation.ledger.shards import Shard
from pipelines.curation.ledger.tables import Part, by_shard
from pipelines.curation.shard_tasks import ShardTasks
from pipelines.curation.spool import ShardSpool
from pipelines.storage.arrow_rows import iter_rows
from pipelines.storage.parallel import in_parallel
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

    def pending(self, parts: Sequence[Part], tasks: ShardTasks) -> ShardSpool:
        """Return the scenes to caption, as rows of SCENE_PART."""
        spool = ShardSpool()
        grouped = by_shard(parts)
        work = ((self, shard, few) for shard, few in grouped.items())
        found = tasks.each(pending_of_shard, work)
        for shard, result in zip(grouped, found, strict=True):
            spool.put(shard, tasks.get(result))
        return spool

    def pending_parts(self, shard: Shard, parts: Sequence[Part]) -> Iterator[ScenePart]:
        """Yield the scenes of one shard to caption."""
        rows = {
            part.place: self.store.read_table(part.key, ["scene_id", "uri"]).to_pylist()
            for part in parts
            if part.table == "scenes"
        }
        ids = {row["scene_id"] for few in rows.values() for row in few}
        known = self.ledger.entries(["reason", "cache_key"], shard, ids) if ids else {}
        lasting = self._lasting(
            known, {r["scene_id"]: r["uri"] for few in rows.values() for r in few}
        )
        size = self.config.resources.scenes_per_commit
        for part in parts:
            if part.table != "shots":
                continue
            waiting = [r["scene_id"] for r in rows[part.place] if r["scene_id"] not in lasting]
            spans = scene_rows(self.store, part.key) if waiting else {}
            for i in range(0, len(waiting), size):
                few = waiting[i : i + size]
                yield {
                    "shard": shard.name,
                    "shots_key": part.key,
                    "scene_ids": few,
                    "attempts": [
                        1 + (known[s].values["attempts"] if s in known else 0) for s in few
                    ],
                    "starts": [spans[s][0] for s in few],
                    "ends": [spans[s][1] for s in few],
                }

    def _lasting(self, known: Mapping[str, Entry], uris: Mapping[str, str]) -> set[str]:
        """Return the scenes for which asking again would give the same answer; uris: of their
        videos."""
        states: dict[str, str] = {}
        if self.config.captioner.kind == "sidecar":
            asked = list({uris[scene_id] for scene_id in known})
            states = dict(zip(asked, in_parallel(sidecar_state, asked), strict=True))
        return {
            scene_id
            for scene_id, caption in known.items()
            if not self._is_asked_again(caption.values["reason"])
            and (not states or caption.values["cache_key"] == states[uris[scene_id]])
        }

    def _is_asked_again(self, reason: str | None) -> bool:
        again = self.config.retry_rejected
        passes = reason in PASSING_CAPTION_REASONS
        return passes or (reason is not None and ("all" in again or reason in again))

    def estimate(self, pending: ShardSpool, tasks: ShardTasks) -> CaptionEstimate | None:
        """Estimate what the pending scenes will cost; None for a captioner that costs nothing."""
        config = self.config.captioner
        captioner = resolve(config.kind, CAPTIONERS, "captioner")
        if not (isinstance(captioner, type) and issubclass(captioner, ChatCaptioner)):
            return None
        answered = tasks.submit(answered_questions, self.store)
        work = ((self, table, answered) for _, table in pending.tables())
        estimate = CaptionEstimate()
        for result in tasks.each(estimate_of_shard, work):
            estimate = estimate.plus(tasks.get(result))
        left = None
        if config.budget_usd is not None:
            left = max(0.0, config.budget_usd - spent_before(self.store))
        logger.info(estimate.sentence(left))
        return estimate

    def record(self, num_scenes: int, estimate: CaptionEstimate, shards: Iterable[Shard]) -> None:
        """Record what this run was expected to cost and what it did cost, for the report."""
        run_id, columns = self.provenance.run_id, ("requests", "prompt_tokens", "output_tokens")
        sums: Counter[str] = Counter()
        for shard in shards:
            for row in self.ledger.every_row(["run_id", *columns], shard):
                if row.values["run_id"] == run_id:
                    sums.update({name: row.values[name] for name in columns})
        record_run(
            self.store,
            RunRecord(
                run_id=run_id,
                created_at=self.provenance.stamp()["created_at"],
                num_scenes=num_scenes,
                estimate=estimate,
                cost_usd=spent_by(self.store, run_id),
                **{name: sums[name] for name in columns},
            ),
        )


def pending_of_shard(phase: CaptionPhase, shard: Shard, parts: Sequence[Part]) -> pa.Table:
    """Return `pending_parts` as a table of SCENE_PART."""
    return pa.Table.from_pylist(list(phase.pending_parts(shard, parts)), schema=SCENE_PART)


def scene_rows(store: Store, shots_key: str) -> dict[str, tuple[int, int]]:
    """Return the rows `[start, end)` of a part of the shots table that hold each scene's shots."""
    spans: dict[str, tuple[int, int]] = {}
    column = store.read_table(shots_key, ["scene_id"])["scene_id"].to_pylist()
    for row, scene_id in enumerate(column):
        if scene_id is not None:
            spans[scene_id] = (spans.get(scene_id, (row, row))[0], row + 1)
    return spans


def answered_questions(store: Store) -> NDArray[np.uint64]:
    """Return the sorted starts of the keys of all cached answers: 8 bytes each."""
    _, folders = store.entries(ANSWERS)
    found = in_parallel(
        lambda folder: [_start(key) for key in store.entries(f"{ANSWERS}/{folder}", ".json")[0]],
        folders,
    )
    return np.sort(np.array([start for few in found for start in few], np.uint64))


def _start(key: str) -> int:
    return int(key.rpartition("/")[2][:16], 16)


def estimate_of_shard(
    phase: CaptionPhase, pending: pa.Table, answered: NDArray[np.uint64]
) -> CaptionEstimate:
    """Estimate the cost of the scenes in a table of SCENE_PART."""
    config = phase.config.captioner
    questions = SceneQuestions(config, phase.prompts())

    def asked() -> Iterator[tuple[SceneView, bool]]:
        for part in iter_rows(pending, ScenePart):
            for scene in scenes_of(part, phase.store):
                start = np.uint64(_start(questions.caption_key(scene)))
                place = int(np.searchsorted(answered, start))
                yield scene, place < len(answered) and answered[place] == start

    return estimate_captions(asked(), config, phase.config.validation)
