"""Captions from a file beside the video: `film.mp4` is described by `film.json`.

The file lists shots as `{"shots": [{"start_frame", "end_frame", "prompt", ...}]}`, as toy films
do. Optional `figures` of a shot (`figure`, `kind`) become the scene's entities, and `scale` its
framing. A detected shot takes the description that covers most of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

from fw_model.errors import StorageError
from fw_model.schemas.curated import CaptionReason
from pipelines.curation.captioners.base import (
    CaptionContext,
    Entity,
    SceneCaption,
    SceneView,
    ShotCaption,
)
from pipelines.storage.store import file_info, read_bytes

Description = Mapping[str, Any]
"""A described shot, as the user's file holds it."""


class SidecarCaptioner:
    """Copies the descriptions that came with the video."""

    model = "sidecar"
    prompt_version = "sidecar-1"
    is_guess = False

    def __init__(self, context: CaptionContext) -> None:
        """Take the context that every captioner gets, and ignore it."""

    async def caption(self, scene: SceneView, complaints: Sequence[str] = ()) -> SceneCaption:
        state = sidecar_state(scene.uri)
        entities: dict[str, Entity] = {}
        shots = []
        try:
            descriptions = _read_sidecar(scene.uri, state)
            for shot in scene.shots:
                found = _covering(descriptions, shot.start_frame, shot.end_frame)
                own = [_entity(figure) for figure in found.get("figures", [])]
                for entity in own:
                    entities.setdefault(entity.id, entity)
                shots.append(
                    ShotCaption(
                        shot_id=shot.shot_id,
                        text=found["prompt"],
                        entity_ids=tuple(entity.id for entity in own),
                        framing=found.get("scale", ""),
                    )
                )
        except (StorageError, LookupError, TypeError, ValueError) as error:
            return SceneCaption(reason=CaptionReason.NO_SIDECAR, detail=str(error), cache_key=state)
        ordered = tuple(entities[key] for key in sorted(entities))
        return SceneCaption(shots=tuple(shots), entities=ordered, cache_key=state)


def sidecar_state(uri: str) -> str:
    """Return the size and date of the file beside the video at `uri`, to notice edits; "" if there
    is none."""
    try:
        info = file_info(_address(uri))
    except (OSError, StorageError):
        return ""
    return f"{info.size}-{info.mtime_ns}" if info.is_file else ""


@lru_cache(maxsize=64)
def _read_sidecar(uri: str, _state: str) -> Sequence[Description]:
    """Return the described shots of the video at `uri`; StorageError or ValueError if none."""
    address = _address(uri)
    try:
        tree = json.loads(read_bytes(address))
    except OSError as error:
        raise StorageError(f"{address} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{address} is not text") from error
    if not isinstance(tree, dict) or not isinstance(tree.get("shots"), list) or not tree["shots"]:
        raise ValueError(f"{address} lists no shots")
    return list(tree["shots"])


def _address(video_uri: str) -> str:
    if "://" in video_uri:
        return video_uri.rpartition(".")[0] + ".json"
    return str(PurePosixPath(video_uri).with_suffix(".json"))


def _covering(descriptions: Sequence[Description], start_frame: int, end_frame: int) -> Description:
    def overlap(description: Description) -> int:
        first = max(description["start_frame"], start_frame)
        last = min(description["end_frame"], end_frame)
        return int(last) - int(first)

    best = max(descriptions, key=overlap)
    if overlap(best) <= 0:
        raise LookupError(f"no description covers frames {start_frame} to {end_frame}")
    return best


def _entity(figure: Description) -> Entity:
    """Return a figure as an entity; its hat and its prop are the attributes."""
    attributes = ", ".join(str(word) for word in (figure.get("hat"), figure.get("prop")) if word)
    return Entity(f"e{figure['figure'] + 1}", figure["kind"], attributes)
