"""From a scene to a row of the captions table: ask, check, refine, accept or reject.

Knows nothing about Ray or about where rows are committed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fw_model.errors import ConfigError
from fw_model.schemas.curated import CaptionReason
from fw_model.schemas.curated_rows import (
    CaptionedShotRow,
    CaptionRow,
    CheckRow,
    EntityRow,
    ProvenanceRow,
)
from pipelines.curation.captioners.base import (
    CaptionContext,
    Captioner,
    CaptionVerifier,
    Entity,
    SceneCaption,
    SceneView,
)
from pipelines.curation.captioning.checks import (
    check_rank,
    check_structure,
    check_verdict,
    complaints,
    rejection,
    too_many_people,
)
from pipelines.curation.captioning.entity_consistency import measure_consistency
from pipelines.llm.usage import Usage

# Raise this when the same settings produce different rows; scenes are then captioned again.
CAPTION_VERSION = 4


@dataclass(frozen=True)
class CaptionLoop:
    """A captioner, and the run whose rules its captions must satisfy."""

    captioner: Captioner
    context: CaptionContext
    concurrency: int

    def caption(self, scenes: Sequence[SceneView], provenance: ProvenanceRow) -> list[CaptionRow]:
        """Return one row per scene, in order; several scenes are in flight at the same time."""
        return asyncio.run(self.caption_async(scenes, provenance))

    async def caption_async(
        self, scenes: Sequence[SceneView], provenance: ProvenanceRow
    ) -> list[CaptionRow]:
        """Do what `caption` does, inside a running event loop."""
        slots = asyncio.Semaphore(self.concurrency)

        async def row_of(scene: SceneView) -> CaptionRow:
            async with slots:
                return await self._row(scene, provenance)

        return list(await asyncio.gather(*(row_of(scene) for scene in scenes)))

    async def _row(self, scene: SceneView, provenance: ProvenanceRow) -> CaptionRow:
        started = time.perf_counter()
        caption, checks, refined = await self._checked_caption(scene)
        counts = measure_consistency(caption, scene, self.context.validation.same_pictures_cosine)
        reason = caption.reason or rejection(checks)
        detail = "; ".join(part for part in (caption.detail, *complaints(checks)) if part)
        return {
            "scene_id": scene.scene_id,
            "video_id": scene.video_id,
            "uri": scene.uri,
            "status": "captioned" if reason is None else "rejected",
            "reason": None if reason is None else str(reason),
            "detail": detail or None,
            "style": caption.style,
            "entities": [_entity_row(entity) for entity in caption.entities],
            "shots": [] if reason is not None else _shot_rows(scene, caption),
            "checks": checks,
            "captioner": self.context.config.kind,
            "model": self.captioner.model,
            "prompt_version": self.captioner.prompt_version,
            "cache_key": caption.cache_key,
            "refined": refined,
            "references": counts.references,
            "references_resolved": counts.references_resolved,
            "recurrences": counts.recurrences,
            "recurrences_same_id": counts.recurrences_same_id,
            "attempts": 1,  # in this run; the caller adds those of earlier runs
            "requests": caption.usage.requests,
            "prompt_tokens": caption.usage.prompt_tokens,
            "output_tokens": caption.usage.output_tokens,
            "cost_usd": caption.usage.cost_usd,
            "caption_s": time.perf_counter() - started,
            **provenance,
        }

    async def _checked_caption(self, scene: SceneView) -> tuple[SceneCaption, list[CheckRow], bool]:
        """Ask until a caption passes or the refinements are used up; return it, with its checks
        and whether it was refined."""
        faults: list[str] = []
        usage = Usage()
        for attempt in range(1 + self.context.validation.refinements):
            caption = await self.captioner.caption(scene, faults)
            caption, checks = await self._check(caption, scene)
            usage = usage.plus(caption.usage)
            caption, refined = replace(caption, usage=usage), attempt > 0
            faults = complaints(checks)
            if caption.reason is not None or not faults:
                break
            if caption.detail:
                faults = [caption.detail, *faults]
        return caption, checks, refined

    async def _check(
        self, caption: SceneCaption, scene: SceneView
    ) -> tuple[SceneCaption, list[CheckRow]]:
        """Check a caption, the cheap checks first; a verdict's cost is added to its usage."""
        if caption.reason is not None:
            return caption, []
        checks = check_structure(caption, scene, self.context.validation)
        if complaints(checks):
            return caption, checks
        crowd = too_many_people(caption, self.context.validation)
        if crowd is not None:  # refining cannot change that
            return replace(caption, reason=CaptionReason.TOO_MANY_PEOPLE, detail=crowd), checks
        if self.captioner.is_guess:
            checks += check_rank(caption, scene, self.context.validation, self._embed_text)
        if complaints(checks) or not self.context.validation.verdict:
            return caption, checks
        if not isinstance(self.captioner, CaptionVerifier):
            raise ConfigError(f"The captioner {self.context.config.kind!r} cannot judge captions.")
        verdict = await self.captioner.verify(scene, caption)
        caption = replace(caption, usage=caption.usage.plus(verdict.usage))
        if verdict.reason is not None:
            return replace(caption, reason=verdict.reason, detail=verdict.detail), checks
        return caption, [*checks, check_verdict(caption, verdict)]

    def _embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.context.embedder.embed_text(texts).cpu().numpy().astype(np.float32)


def _entity_row(entity: Entity) -> EntityRow:
    return {
        "id": entity.id,
        "name": entity.name,
        "attributes": entity.attributes,
        "kind": entity.kind,
    }


def _shot_rows(scene: SceneView, caption: SceneCaption) -> list[CaptionedShotRow]:
    return [
        {
            "shot_id": shot.shot_id,
            "video_id": scene.video_id,
            "uri": scene.uri,
            "start_frame": shot.start_frame,
            "end_frame": shot.end_frame,
            "text": described.text.strip(),
            "entity_ids": list(described.entity_ids),
            "framing": described.framing,
            "keyframe_frames": list(shot.keyframe_frames),
        }
        for shot, described in zip(scene.shots, caption.shots, strict=True)
    ]
