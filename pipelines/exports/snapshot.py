"""The captioned scenes of a published snapshot with their shots, in a fixed order, part by part.

Knows nothing about the form they are exported to.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fw_model.errors import DataError
from pipelines.curation.ledger.tables import MANIFEST, published_files
from pipelines.storage.arrow_rows import iter_rows
from pipelines.storage.store import Store

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
        files = json.loads(self.store.read(MANIFEST))["files"]
        content = sorted((file["table"], file["content_sha256"]) for file in files)
        self.identity = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @property
    def places(self) -> list[int]:
        """The numbers of the parts; a scene and its shots are in parts with the same number."""
        return sorted(self._tables["scenes"])

    def scenes(self, place: int) -> Iterator[CuratedScene]:
        """Yield the captioned scenes of a part, in the order of the table."""
        captions = {row["scene_id"]: row for row in self._rows("captions", place)}
        shots = {row["shot_id"]: row for row in self._rows("shots", place)}
        for scene in self._rows("scenes", place):
            caption = captions.get(scene["scene_id"])
            if caption is None or caption["status"] != "captioned":
                continue
            said = {shot["shot_id"]: shot for shot in caption["shots"]}
            pairs = [CuratedShot(shots[i], said[i]) for i in scene["shot_ids"] if i in said]
            yield CuratedScene(scene, caption, tuple(pairs))

    def every_scene(self) -> Iterator[CuratedScene]:
        """Yield the captioned scenes of all parts."""
        for place in self.places:
            yield from self.scenes(place)

    def _rows(self, table: str, place: int) -> list[dict[str, Any]]:
        return list(iter_rows(self.store.read_table(self._tables[table][place])))


def _by_place(store: Store, table: str) -> dict[int, str]:
    """Return the published files of a table by the number in their names."""
    found = {}
    for key in published_files(store, table):
        number = re.search(r"part-(\d+)-", key)
        if number is None:
            raise DataError(f"{store.address(key)} is not a part of a curated table; curate again.")
        found[int(number.group(1))] = key
    return found
