"""From a scene to a row of the captions table: ask, check, ask once more, accept or reject."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fw_model.errors import ConfigError
from fw_model.schemas.curated import CaptionReason
from pipelines.curation.captioners.base import Captioner, Judge, SceneCaption, SceneView, Usage
from pipelines.curation.captioning.checks import (
    Check,
    check_rank,
    check_structure,
    check_verdict,
    complaints,
    crowd,
    rejection,
)
from pipelines.curation.captioning.entity_consistency import measure_consistency
from pipelines.curation.config import ValidationConfig

if TYPE_CHECKING:
    from fw_model.embedders.base import Embedder

# Raise this when the same settings begin to give other rows: finished rows are then made again.
CAPTION_VERSION = 4


@dataclass(frozen=True)
class CaptionDesk:
    """A captioner with the rules that its answers are held to."""

    captioner: Captioner
    captioner_kind: str
    validation: ValidationConfig
    embedder: Embedder
    concurrency: int

    def caption(
        self, scenes: Sequence[SceneView], provenance: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Return a row for each scene, in order; several scenes are in flight at once."""
        return asyncio.run(self._caption_all(scenes, provenance))

    async def _caption_all(
        self, scenes: Sequence[SceneView], provenance: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        gate = asyncio.Semaphore(self.concurrency)

        async def one(scene: SceneView) -> dict[str, Any]:
            async with gate:
                return await self._row(scene, provenance)

        return list(await asyncio.gather(*(one(scene) for scene in scenes)))

    async def _row(self, scene: SceneView, provenance: Mapping[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        answer, checks, refined = await self._checked(scene)
        counts = measure_consistency(answer, scene, self.validation.same_pictures_cosine)
        reason = answer.reason or rejection(checks)
        detail = "; ".join(part for part in (answer.detail, *complaints(checks)) if part)
        return {
            "scene_id": scene.scene_id,
            "video_id": scene.video_id,
            "uri": scene.uri,
            "status": "captioned" if reason is None else "rejected",
            "reason": None if reason is None else str(reason),
            "detail": detail or None,
            "style": answer.style,
            "entities": [asdict(entity) for entity in answer.entities],
            "shots": [] if reason is not None else _shots(scene, answer),
            "checks": [asdict(check) for check in checks],
            "captioner": self.captioner_kind,
            "model": self.captioner.model,
            "prompt_version": self.captioner.prompt_version,
            "cache_key": answer.cache_key,
            "refined": refined,
            **asdict(counts),
            **asdict(answer.usage),
            "caption_s": time.perf_counter() - started,
            **provenance,
        }

    async def _checked(self, scene: SceneView) -> tuple[SceneCaption, list[Check], bool]:
        """Ask until an answer holds or the refinements are used up."""
        told: list[str] = []
        usage = Usage()
        for attempt in range(1 + self.validation.refinements):
            answer = await self.captioner.caption(scene, told)
            answer, checks = await self._examined(answer, scene)
            usage = usage.plus(answer.usage)
            answer, refined = replace(answer, usage=usage), attempt > 0
            told = complaints(checks)
            if answer.reason is not None or not told:
                break
            told = [answer.detail, *told] if answer.detail else told
        return answer, checks, refined

    async def _examined(
        self, answer: SceneCaption, scene: SceneView
    ) -> tuple[SceneCaption, list[Check]]:
        """Check an answer, the cheap checks first; a verdict's price is added to its own."""
        if answer.reason is not None:
            return answer, []
        checks = check_structure(answer, scene, self.validation)
        if complaints(checks):
            return answer, checks
        crowded = crowd(answer, self.validation)
        if crowded is not None:  # no other words would change that
            reason = CaptionReason.TOO_MANY_PEOPLE
            return replace(answer, reason=reason, detail=crowded), checks
        if self.captioner.is_guess:
            checks += check_rank(answer, scene, self.validation, self._embed_text)
        if complaints(checks) or not self.validation.verdict:
            return answer, checks
        if not isinstance(self.captioner, Judge):
            raise ConfigError(f"The captioner {self.captioner_kind!r} cannot judge captions.")
        verdict = await self.captioner.judge(scene, answer)
        answer = replace(answer, usage=answer.usage.plus(verdict.usage))
        if verdict.reason is not None:
            return replace(answer, reason=verdict.reason, detail=verdict.detail), checks
        return answer, [*checks, check_verdict(answer, verdict)]

    def _embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embedder.embed_text(texts).cpu().numpy().astype(np.float32)


def _shots(scene: SceneView, answer: SceneCaption) -> list[dict[str, Any]]:
    """Join what is known of the shots with what was said of them."""
    return [
        {
            "shot_id": shot.shot_id,
            "video_id": scene.video_id,
            "uri": scene.uri,
            "start_frame": shot.start_frame,
            "end_frame": shot.end_frame,
            "text": said.text.strip(),
            "entity_ids": list(said.entity_ids),
            "framing": said.framing,
            "keyframe_frames": list(shot.keyframe_frames),
        }
        for shot, said in zip(scene.shots, answer.shots, strict=True)
    ]
