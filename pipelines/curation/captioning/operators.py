"""The Ray-facing callable of captioning: a thin shell around the caption loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fw_model.schemas.curated import MEASURED_SHOT_FIELDS
from fw_model.schemas.curated_rows import CaptionRow, MeasuredShotRow
from pipelines.curation.captioners.base import (
    CaptionContext,
    EngineResponse,
    Prompts,
    SceneView,
    ShotView,
    make_captioner,
)
from pipelines.curation.captioning.caption_loop import CaptionLoop
from pipelines.curation.config import CaptionerConfig, ValidationConfig
from pipelines.curation.ledger.ledger import Ledger
from pipelines.curation.ledger.receipts import Provenance, commit
from pipelines.curation.ledger.shards import Shard
from pipelines.llm.budget import Budget
from pipelines.storage.arrow_rows import iter_rows, schema_of
from pipelines.storage.store import Store

if TYPE_CHECKING:
    from fw_model.loading.config import ModelConfig


class ScenePart(TypedDict):
    """Scenes to caption, of one part of the shots table; the lists have one entry per scene.

    `attempts` counts a scene's attempts, including the coming one; its shots are among the rows
    `[starts, ends)` of the part.
    """

    shard: str
    shots_key: str
    scene_ids: list[str]
    attempts: list[int]
    starts: list[int]
    ends: list[int]


SCENE_PART = schema_of(ScenePart)


class CaptionScenes:
    """SCENE_PART -> RECEIPT, 1:N. The scenes of a part are captioned concurrently and committed
    together."""

    def __init__(
        self,
        captioner: CaptionerConfig,
        validation: ValidationConfig,
        model: ModelConfig,
        store: Store,
        *,
        ledger: Ledger[CaptionRow],
        provenance: Provenance,
        num_actors: int,
        prompts: Prompts,
        budget: Budget | None,
        responses: Mapping[str, EngineResponse],
    ) -> None:
        from fw_model.loading.load import load_embedder

        embedder, share = load_embedder(model), 1.0 / num_actors
        context = CaptionContext(
            captioner, store, embedder, validation, prompts, share, budget, responses
        )
        self._loop = CaptionLoop(make_captioner(context), context, captioner.concurrency)
        self._store = store
        self._ledger = ledger
        self._provenance = provenance

    def __call__(self, parts: pa.Table) -> pa.Table:
        return pa.concat_tables([self._caption(part) for part in iter_rows(parts, ScenePart)])

    def _caption(self, part: ScenePart) -> pa.Table:
        rows = self._loop.caption(scenes_of(part, self._store), self._provenance.stamp())
        attempts = dict(zip(part["scene_ids"], part["attempts"], strict=True))
        for row in rows:
            row["attempts"] = attempts[row["scene_id"]]
        return commit(self._ledger, rows, Shard.parse(part["shard"]))


class SceneShotRow(MeasuredShotRow):
    """The columns of the shots table that describe a shot of a scene."""

    scene_id: str
    video_id: str
    uri: str


SCENE_SHOT_COLUMNS = [*(f.name for f in MEASURED_SHOT_FIELDS), "scene_id", "video_id", "uri"]


def scenes_of(part: ScenePart, store: Store) -> list[SceneView]:
    """Return the scenes of a part, each with its shots; only the rows near them are read."""
    spans = list(zip(part["starts"], part["ends"], strict=True))
    table = store.read_row_groups(part["shots_key"], SCENE_SHOT_COLUMNS, spans)
    table = table.filter(pc.is_in(table["scene_id"], pa.array(part["scene_ids"], pa.string())))
    shots: dict[str, list[SceneShotRow]] = {}
    for shot in iter_rows(table, SceneShotRow):
        shots.setdefault(shot["scene_id"], []).append(shot)
    return [
        SceneView(
            scene_id,
            shots[scene_id][0]["video_id"],
            shots[scene_id][0]["uri"],
            tuple(map(_shot_view, shots[scene_id])),
            store,
        )
        for scene_id in part["scene_ids"]
    ]


def _shot_view(shot: MeasuredShotRow) -> ShotView:
    embedding = shot["embedding"]
    return ShotView(
        shot_id=shot["shot_id"],
        start_frame=shot["content_start_frame"],
        end_frame=shot["content_end_frame"],
        duration_s=shot["end_s"] - shot["start_s"],
        motion=shot["motion"],
        luma=shot["luma"],
        embedding=None if embedding is None else np.asarray(embedding, np.float32),
        keyframe_frames=tuple(k["frame"] for k in shot["keyframes"]),
        keyframe_uris=tuple(k["uri"] for k in shot["keyframes"]),
        keyframe_sha256s=tuple(k["sha256"] for k in shot["keyframes"]),
        num_faces=shot["num_faces"],
        read_text=_read_text(shot),
        nsfw=shot["nsfw"],
    )


def _read_text(shot: MeasuredShotRow) -> tuple[str, ...] | None:
    """Return the lines of the keyframe that shows the most text; None if none was read."""
    pages = [k["text_lines"] for k in shot["keyframes"] if k["text_lines"] is not None]
    if not pages:
        return None
    longest = max(pages, key=lambda lines: sum(len(line["text"]) for line in lines))
    return tuple(line["text"] for line in longest if line["text"])
