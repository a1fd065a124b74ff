"""From a scene to a row of the captions table: ask, check, ask once more, accept or reject."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fw_model.schema import CaptionReason
from pipelines.captioners.base import Captioner, SceneCaption, SceneView
from pipelines.curation_config import ValidationConfig
from pipelines.validation import Check, check_rank, check_structure, complaints

if TYPE_CHECKING:
    from fw_model.embedders.base import Embedder

# Raise this when the same settings begin to give other rows: finished rows are then made again.
CAPTION_VERSION = 2


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
        failed = complaints(checks)
        if answer.reason is None and failed:
            rank_only = all(c.passed or c.check == "clip_rank" for c in checks)
            reason = CaptionReason.MISMATCH if rank_only else CaptionReason.INVALID
            answer = replace(answer, reason=reason, detail="; ".join(failed))
        return {
            "scene_id": scene.scene_id,
            "video_id": scene.video_id,
            "uri": scene.uri,
            "status": "captioned" if answer.reason is None else "rejected",
            "reason": None if answer.reason is None else str(answer.reason),
            "detail": answer.detail or None,
            "style": answer.style,
            "entities": [asdict(entity) for entity in answer.entities],
            "shots": _shots(scene, answer),
            "checks": [asdict(check) for check in checks],
            "captioner": self.captioner_kind,
            "model": self.captioner.model,
            "prompt_version": self.captioner.prompt_version,
            "cache_key": answer.cache_key,
            "refined": refined,
            **asdict(answer.usage),
            "caption_s": time.perf_counter() - started,
            **provenance,
        }

    async def _checked(self, scene: SceneView) -> tuple[SceneCaption, list[Check], bool]:
        """Ask until an answer holds or the refinements are used up."""
        answer = await self.captioner.caption(scene)
        checks = self._check(answer, scene)
        for attempt in range(self.validation.refinements):
            failed = complaints(checks)
            if answer.reason is not None or not failed:
                return answer, checks, attempt > 0
            again = await self.captioner.caption(scene, failed)
            answer = replace(again, usage=answer.usage.plus(again.usage))
            checks = self._check(answer, scene)
        return answer, checks, self.validation.refinements > 0

    def _check(self, answer: SceneCaption, scene: SceneView) -> list[Check]:
        if answer.reason is not None:
            return []
        checks = check_structure(answer, scene, self.validation)
        if all(check.passed for check in checks):
            checks += check_rank(answer, scene, self.validation, self._embed_text)
        return checks

    def _embed_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self.embedder.embed_text(texts).cpu().numpy().astype(np.float32)


def _shots(scene: SceneView, answer: SceneCaption) -> list[dict[str, Any]]:
    """Join what is known of the shots with what was said of them; a rejected scene has none."""
    if answer.reason is not None:
        return []
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
