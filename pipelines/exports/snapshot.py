"""The captioned scenes of a published snapshot with their shots, in a fixed order, part by part.

Knows nothing about the form they are exported to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from fw_model.errors import DataError
from pipelines.curation.ledger.tables import manifest_files, place_of, published_files
from pipelines.storage.arrow_rows import iter_rows
from pipelines.storage.parallel import REQUESTS_TOGETHER, in_parallel, map_ahead
from pipelines.storage.store import Store

SCENES_TOGETHER = 32
READS_AHEAD = 4

Row = Mapping[str, Any]


@dataclass(frozen=True)
class CuratedShot:
    """A shot of a captioned scene: its row of the shots table, and its caption."""

    measured: Row
    said: Row


@dataclass(frozen=True)
class CuratedScene:
    """A captioned scene: its row, the row of its caption, and its shots in order."""

    scene: Row
    caption: Row
    shots: tuple[CuratedShot, ...]


class Snapshot:
    """The finished tables of a curated folder, as its manifest lists them."""

    def __init__(self, curated: str) -> None:
        self.store = Store(curated)
        tables = {name: _by_place(self.store, name) for name in ("scenes", "shots", "captions")}
        if len({frozenset(parts) for parts in tables.values()}) != 1:
            raise DataError(f"The parts of {curated}'s tables do not match; curate it again.")
        self._tables = tables
        files = manifest_files(self.store)
        content = sorted((file["table"], file["content_sha256"]) for file in files)
        self.identity = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @property
    def places(self) -> list[int]:
        """The numbers of the parts; a scene and its shots are in parts with the same number."""
        return sorted(self._tables["scenes"])

    def scenes(self, place: int) -> Iterator[CuratedScene]:
        """Yield the captioned scenes of a part, in the order of the table."""
        tables = ("captions", "shots", "scenes")
        captioned, measured, scenes = in_parallel(lambda table: self._rows(table, place), tables)
        captions = {row["scene_id"]: row for row in captioned}
        shots = {row["shot_id"]: row for row in measured}
        for scene in scenes:
            caption = captions.get(scene["scene_id"])
            if caption is None or caption["status"] != "captioned":
                continue
            said = {shot["shot_id"]: shot for shot in caption["shots"]}
            pairs = [CuratedShot(shots[i], said[i]) for i in scene["shot_ids"] if i in said]
            yield CuratedScene(scene, caption, tuple(pairs))

    def every_scene(self) -> Iterator[CuratedScene]:
        """Yield the captioned scenes of all parts."""
        for scenes in map_ahead(lambda place: list(self.scenes(place)), self.places, ahead=1):
            yield from scenes

    def with_media(self, first: int = 0) -> Iterator[tuple[CuratedScene, dict[str, bytes]]]:
        """Yield the captioned scenes of all parts from number `first` on, each with its media files
        by `uri`.

        Those of some scenes are read together, because they share objects.
        """
        scenes = islice(self.every_scene(), first, None)
        together = iter(lambda: list(islice(scenes, SCENES_TOGETHER)), [])
        for few in map_ahead(self._with_media, together, ahead=READS_AHEAD):
            yield from few

    def _with_media(
        self, scenes: list[CuratedScene]
    ) -> list[tuple[CuratedScene, dict[str, bytes]]]:
        uris = [media_of(scene) for scene in scenes]
        every = list(dict.fromkeys(uri for few in uris for uri in few))
        found = dict(zip(every, self.store.read_many(every), strict=True))
        return [
            (scene, {uri: found[uri] for uri in few})
            for scene, few in zip(scenes, uris, strict=True)
        ]

    def count(self) -> list[int]:
        """Return the number of shots of each captioned scene; only captions are read."""
        columns = ["status", "shots.list.element.shot_id"]
        tables = map_ahead(
            lambda place: self.store.read_table(self._tables["captions"][place], columns),
            self.places,
            ahead=REQUESTS_TOGETHER,
        )
        return [
            len(row["shots"])
            for table in tables
            for row in table.to_pylist()
            if row["status"] == "captioned"
        ]

    def _rows(self, table: str, place: int) -> list[dict[str, Any]]:
        return list(iter_rows(self.store.read_table(self._tables[table][place])))


def media_of(scene: CuratedScene) -> list[str]:
    """Return the addresses of the keyframes and shot files of a scene."""
    keyframes = [k["uri"] for shot in scene.shots for k in shot.measured["keyframes"]]
    clips = [shot.measured.get("clip_uri") for shot in scene.shots]
    return [*keyframes, *(clip for clip in clips if clip)]


def _by_place(store: Store, table: str) -> dict[int, str]:
    """Return the published files of a table by the number in their names."""
    return {place_of(key): key for key in published_files(store, table)}
