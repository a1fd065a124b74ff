"""The Ray-facing callable of captioning: a thin shell around the caption loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypedDict, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fw_model.schemas.curated import MEASURED_SHOT_FIELDS
from fw_model.schemas.curated_rows import CaptionRow, MeasuredShotRow, SceneRow
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
from pipelines.llm.budget import Budget
from pipelines.storage.arrow_rows import iter_rows, schema_of
from pipelines.storage.store import Store

if TYPE_CHECKING:
    from fw_model.loading.config import ModelConfig

RowT = TypeVar("RowT")


class ScenePart(TypedDict):
    """Scenes to caption, of one part of the scenes table and the matching part of the shots table.
    `attempts` counts each scene's attempts, including the coming one."""

    scenes_key: str
    shots_key: str
    scene_ids: list[str]
    attempts: list[int]


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
        return commit(self._ledger, rows)


def scenes_of(part: ScenePart, store: Store) -> list[SceneView]:
    """Return the scenes of a part, each with its shots."""
    columns = ["scene_id", "video_id", "uri", "shot_ids"]
    key, ids = part["scenes_key"], part["scene_ids"]
    scenes = _read_rows(SceneRow, store, key, "scene_id", ids, columns)
    shot_ids = [shot_id for scene in scenes for shot_id in scene["shot_ids"]]
    columns = [field.name for field in MEASURED_SHOT_FIELDS]
    measured = _read_rows(MeasuredShotRow, store, part["shots_key"], "shot_id", shot_ids, columns)
    shots = {shot["shot_id"]: _shot_view(shot) for shot in measured}
    return [
        SceneView(
            scene["scene_id"],
            scene["video_id"],
            scene["uri"],
            tuple(shots[shot_id] for shot_id in scene["shot_ids"]),
            store,
        )
        for scene in scenes
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


def _read_rows(
    row_type: type[RowT],
    store: Store,
    key: str,
    column: str,
    ids: Sequence[str],
    columns: list[str],
) -> list[RowT]:
    """Return the rows with these ids. They are filtered while reading, because a part holds many
    scenes, of which few are needed at once."""
    wanted = pc.field(column).isin(pa.array(sorted(set(ids)), pa.string()))
    return list(iter_rows(store.read_table(key, columns, filters=wanted), row_type))
