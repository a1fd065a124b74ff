"""The assemble phase of curation: analyzed videos to the staged tables of videos, shots and scenes.

It handles numbers only, no images, so every run does it again. It keeps in memory one part of the
tables, a few numbers per shot (`DuplicateCandidates`) and the provenance of the published scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fw_model.schemas.curated_rows import AnalyzedVideoRow, ProvenanceRow, SceneRow
from pipelines.curation.assembly.aesthetic import ShotAesthetics
from pipelines.curation.assembly.assemble import TABLES, assemble_video, shot_prints
from pipelines.curation.assembly.near_duplicates import (
    DuplicateCandidates,
    ShotPrint,
    find_duplicates,
)
from pipelines.curation.config import CurationConfig
from pipelines.curation.ledger.ledger import Entry, Ledger, config_hash
from pipelines.curation.ledger.receipts import Provenance, code_version
from pipelines.curation.ledger.tables import Draft, Part
from pipelines.storage.arrow_rows import iter_rows
from pipelines.storage.store import Store

FINGERPRINTS = "shots.list.element.fingerprint"
SHOTS_PER_PART = 8_000  # 32 to 64 MB, with their embeddings
VIDEOS_PER_PART = 8_000


@dataclass(frozen=True)
class AssemblePhase:
    """Filters, duplicates and scenes over all analyzed videos."""

    config: CurationConfig
    store: Store
    analyzed: Ledger[AnalyzedVideoRow]
    aesthetics: ShotAesthetics | None
    run_id: str
    on_part: Callable[[int, int], None]  # called with the number of parts done and in all

    def run(self, source_ids: Sequence[str]) -> list[Part]:
        """Stage the tables, in the order of `source_ids`; return their parts."""
        entries = self.analyzed.entries(["num_shots"])
        groups = grouped({i: e for i in source_ids if (e := entries.get(i))})
        new_stamp = self._scene_provenance().stamp()
        stamps = self._known_stamps(new_stamp)
        duplicates = self._duplicates(groups)
        parts = []
        for place, group in enumerate(groups):
            drafts = {name: Draft(name) for name in TABLES}
            for video in self.analyzed.read(group):
                rows = assemble_video(
                    video,
                    scores=self._scores(video),
                    duplicates=duplicates,
                    filters=self.config.filters,
                    scenes=self.config.scenes,
                    stamp=lambda scene_id: stamps.get(scene_id, new_stamp),
                )
                for name, draft in drafts.items():
                    draft.add(getattr(rows, name))
            parts += [d.stage(self.store, place, self.run_id) for d in drafts.values()]
            self.on_part(place + 1, len(groups))
        return parts

    def _scene_provenance(self) -> Provenance:
        """Return what determines the scenes: the settings of the analysis, the filters and the
        clustering, and the code of this package."""
        settings = (self.analyzed.settings_hash, self.config.filters, self.config.scenes)
        return Provenance(config_hash(*settings), code_version("assembly"), self.run_id)

    def _known_stamps(self, new: ProvenanceRow) -> dict[str, ProvenanceRow]:
        """Return the provenance of the finished scenes that this run would make the same way. They
        keep it, so that an unchanged run writes the same files."""
        stamps: dict[tuple[str, str], ProvenanceRow] = {}
        known: dict[str, ProvenanceRow] = {}
        columns = ["scene_id", *new]
        for key in self.store.keys("scenes", ".parquet"):
            for row in iter_rows(self.store.read_table(key, columns), SceneRow):
                run = row["run_id"], row["created_at"]
                made_by = row["config_hash"], row["code_version"]
                if made_by == (new["config_hash"], new["code_version"]):
                    same: ProvenanceRow = {**new, "run_id": run[0], "created_at": run[1]}
                    known[row["scene_id"]] = stamps.setdefault(run, same)
        return known

    def _duplicates(self, groups: Sequence[Mapping[str, Entry]]) -> set[str]:
        """Return the shots that repeat an earlier one; only candidates are read in full."""
        filters = self.config.filters
        if filters.duplicate_distance_bits is None:
            return set()
        candidates = DuplicateCandidates(filters.duplicate_distance_bits)
        for group in groups:
            for row in self.analyzed.read(group, [FINGERPRINTS]):
                shots = row["shots"] or []
                candidates.add(row["source_id"], [shot["fingerprint"] for shot in shots])
        return find_duplicates(self._prints(groups, candidates.found()), filters)

    def _prints(
        self, groups: Sequence[Mapping[str, Entry]], found: Mapping[str, set[int]]
    ) -> Iterator[ShotPrint]:
        for group in groups:
            for video in self.analyzed.read({i: e for i, e in group.items() if i in found}):
                video["shots"] = [video["shots"][i] for i in sorted(found[video["source_id"]])]
                yield from shot_prints(video, self._scores(video), self.config.filters)

    def _scores(self, video: AnalyzedVideoRow) -> dict[str, float]:
        return self.aesthetics.scores(video["shots"]) if self.aesthetics else {}


def grouped(videos: Mapping[str, Entry]) -> list[dict[str, Entry]]:
    """Group the videos by part of the tables, in order; a group fits in memory at once."""
    groups: list[dict[str, Entry]] = []
    num_shots = 0
    for source_id, entry in videos.items():
        num_shots += entry.values["num_shots"] or 0
        full = not groups or num_shots > SHOTS_PER_PART or len(groups[-1]) >= VIDEOS_PER_PART
        if full:
            groups.append({})
            num_shots = entry.values["num_shots"] or 0
        groups[-1][source_id] = entry
    return groups
