"""Captions that lie beside the video: `film.mp4` is described by `film.json`.

The file lists shots as `{"shots": [{"start_frame", "end_frame", "prompt", ...}]}`, as toy films
do; optional `figures` of a shot (`figure`, `kind`) become the scene's entities and `scale` its
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


class SidecarCaptioner:
    """Takes over the descriptions that came with the video."""

    model = "sidecar"
    prompt_version = "sidecar-1"
    is_guess = False

    def __init__(self, context: CaptionContext) -> None:
        self._context = context

    async def caption(self, scene: SceneView, complaints: Sequence[str] = ()) -> SceneCaption:
        state = sidecar_state(scene.uri)
        try:
            told = _read_sidecar(scene.uri, state)
            described = [_covering(told, shot.start_frame, shot.end_frame) for shot in scene.shots]
            entities: dict[str, Entity] = {}
            shots = []
            for shot, truth in zip(scene.shots, described, strict=True):
                figures = truth.get("figures", [])
                own = [Entity(f"e{f['figure'] + 1}", f["kind"], _attributes(f)) for f in figures]
                entities |= {entity.id: entity for entity in own if entity.id not in entities}
                shots.append(
                    ShotCaption(
                        shot_id=shot.shot_id,
                        text=truth["prompt"],
                        entity_ids=tuple(entity.id for entity in own),
                        framing=truth.get("scale", ""),
                    )
                )
        except (StorageError, LookupError, TypeError, ValueError) as fault:
            return SceneCaption(reason=CaptionReason.NO_SIDECAR, detail=str(fault), cache_key=state)
        ordered = tuple(entities[key] for key in sorted(entities))
        return SceneCaption(shots=tuple(shots), entities=ordered, cache_key=state)


def sidecar_state(uri: str) -> str:
    """Return size and date of the file beside the video at `uri`, "" if there is none: an edited
    file is another one."""
    try:
        info = file_info(_address(uri))
    except (OSError, StorageError):
        return ""
    return f"{info.size}-{info.mtime_ns}" if info.is_file else ""


@lru_cache(maxsize=64)
def _read_sidecar(uri: str, _state: str) -> Sequence[Mapping[str, Any]]:
    """Return the described shots beside the video at `uri`; StorageError or ValueError if none."""
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


def _covering(
    told: Sequence[Mapping[str, Any]], start_frame: int, end_frame: int
) -> Mapping[str, Any]:
    def overlap(truth: Mapping[str, Any]) -> int:
        first, last = max(truth["start_frame"], start_frame), min(truth["end_frame"], end_frame)
        return int(last) - int(first)

    best = max(told, key=overlap)
    if overlap(best) <= 0:
        raise LookupError(f"nothing is said of frames {start_frame} to {end_frame}")
    return best


def _attributes(figure: Mapping[str, Any]) -> str:
    """Return what is told of a figure beside its kind: its hat and its prop."""
    told = [figure.get("hat"), figure.get("prop")]
    return ", ".join(str(word) for word in told if word)
