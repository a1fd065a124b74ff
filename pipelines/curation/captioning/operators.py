"""The Ray-facing callable of captioning: a thin shell over the caption loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from fw_model.schemas.curated import MEASURED_SHOT_FIELDS
from pipelines.curation.captioners.base import (
    CaptionContext,
    EngineAnswer,
    Prompts,
    make_captioner,
    scene_view,
)
from pipelines.curation.captioners.limits import Purse
from pipelines.curation.captioning.caption_loop import CaptionDesk
from pipelines.curation.config import CaptionerConfig, ValidationConfig
from pipelines.curation.ledger.ledger import Ledger
from pipelines.curation.ledger.receipts import Provenance, commit
from pipelines.storage.arrow_rows import iter_rows
from pipelines.storage.store import Store

if TYPE_CHECKING:
    from fw_model.loading.config import ModelConfig

SCENE_PART = pa.schema(
    [
        pa.field("scenes_key", pa.string()),
        pa.field("shots_key", pa.string()),
        pa.field("scene_ids", pa.list_(pa.string())),
        pa.field("attempts", pa.list_(pa.int32())),
    ]
)
"""Some scenes of one part of the scenes table, and the part of the shots table beside it;
`attempts` of each scene, the coming one included."""


class CaptionScenes:
    """SCENE_PART -> RECEIPT, 1:N, a part's scenes committed together. Several scenes of a part are
    in flight at once."""

    def __init__(
        self,
        captioner: CaptionerConfig,
        validation: ValidationConfig,
        model: ModelConfig,
        store: Store,
        ledger: Ledger,
        provenance: Provenance,
        *,
        num_actors: int,
        prompts: Prompts,
        purse: Purse | None,
        answers: Mapping[str, EngineAnswer],
    ) -> None:
        from fw_model.loading.load import load_embedder

        embedder = load_embedder(model)
        context = CaptionContext(
            captioner, store, embedder, validation, prompts, 1.0 / num_actors, purse, answers
        )
        self._desk = CaptionDesk(
            make_captioner(context), captioner.kind, validation, embedder, captioner.concurrency
        )
        self._store = store
        self._ledger = ledger
        self._provenance = provenance

    def __call__(self, parts: pa.Table) -> pa.Table:
        return pa.concat_tables([self._caption(part) for part in parts.to_pylist()])

    def _caption(self, part: Mapping[str, Any]) -> pa.Table:
        views = [scene_view(row, self._store) for row in scenes_of(part, self._store)]
        rows = self._desk.caption(views, self._provenance.stamp())
        attempts = dict(zip(part["scene_ids"], part["attempts"], strict=True))
        return commit(self._ledger, [r | {"attempts": attempts[r["scene_id"]]} for r in rows])


def scenes_of(part: Mapping[str, Any], store: Store) -> list[dict[str, Any]]:
    """Return the scenes of a SCENE_PART that are asked for, each with its shots."""
    columns = ["scene_id", "video_id", "uri", "shot_ids"]
    scenes = _rows_of(store, part["scenes_key"], "scene_id", part["scene_ids"], columns)
    shot_ids = [shot_id for scene in scenes for shot_id in scene["shot_ids"]]
    measured = [field.name for field in MEASURED_SHOT_FIELDS]
    shots = {
        shot["shot_id"]: shot
        for shot in _rows_of(store, part["shots_key"], "shot_id", shot_ids, measured)
    }
    return [
        {
            "scene_id": scene["scene_id"],
            "video_id": scene["video_id"],
            "uri": scene["uri"],
            "shots": [shots[shot_id] for shot_id in scene["shot_ids"]],
        }
        for scene in scenes
    ]


def _rows_of(
    store: Store, key: str, column: str, ids: Sequence[str], columns: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the rows of a part with these ids. Filtered while read: a part holds many scenes and
    is read once for each few of them.
    """
    wanted = pc.field(column).isin(pa.array(sorted(set(ids)), pa.string()))
    return list(iter_rows(store.read_table(key, list(columns), filters=wanted)))
