"""Do shots end up in the scenes that people put them in?

    filmweaver curate FOLDER CURATED
    python -m benchmarks.scene_agreement CURATED --videos FOLDER [--json FILE] [--quick]

FOLDER holds toy films with their truth, or GROUND_TRUTH.json: {file: {"frames": N, "cuts": [...],
"gradual": [[first, last], ...], "scenes": [[shot, ...], ...], "scenes_alternative": another
acceptable grouping}}. For every pair of judged shots of one video the question is: one scene or
two? A judged shot counts as being in the scene of the found shot that covers most of it; one that a
filter dropped is alone. Pairs of all videos are counted together. Two trivial groupings, every shot
alone and one scene per video, are scored beside it. It is always quick.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from benchmarks.report import FOOTAGE, Row, parser, report

Span = tuple[int, int]
Grouping = Sequence[Hashable]
"""The scene of each judged shot, in order."""


@dataclass(frozen=True)
class Agreement:
    """Counts of pairs of shots: in one scene for both, for the finder only, for people only."""

    both: int = 0
    found_only: int = 0
    judged_only: int = 0

    def __add__(self, other: Agreement) -> Agreement:
        return Agreement(
            self.both + other.both,
            self.found_only + other.found_only,
            self.judged_only + other.judged_only,
        )

    @property
    def f1(self) -> float:
        """Return the harmonic mean of precision and recall; 1 where no pair is in one scene."""
        total = 2 * self.both + self.found_only + self.judged_only
        return 2 * self.both / total if total else 1.0

    def __str__(self) -> str:
        return (
            f"in one scene for both: {self.both}, for the finder only: {self.found_only},"
            f" for people only: {self.judged_only}"
        )


def main() -> None:
    """Compare the scenes of a curated folder with the judged ones."""
    arguments = _arguments()
    files = _judged_files(arguments.videos)
    table = pq.read_table(
        arguments.curated / "shots", columns=["uri", "start_frame", "end_frame", "scene_id"]
    )
    found: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        found.setdefault(Path(row["uri"]).name, []).append(row)
    groupings: dict[str, Callable[[str, list[Span]], Grouping]] = {
        "found": lambda name, spans: [_scene_of(span, found.get(name, [])) for span in spans],
        "every shot alone": lambda _, spans: list(range(len(spans))),
        "one scene per video": lambda _, spans: [0] * len(spans),
    }
    held_out = FOOTAGE[arguments.footage]
    rows, by_file = [], []
    for title, group in groupings.items():
        scores = {name: _compare(t, group(name, _judged_spans(t))) for name, t in files.items()}
        whole = sum(scores.values(), Agreement())
        rows.append(Row(f"pairs of shots, {title}", round(whole.f1, 3), "F1", held_out, str(whole)))
        if title == "found":
            by_file = [
                Row(f"pairs of shots, {name}", round(s.f1, 3), "F1", held_out, str(s))
                for name, s in scores.items()
            ]
    report(arguments, "scene_agreement", rows + by_file)


def _judged_files(folder: Path) -> dict[str, Any]:
    """Return what people judged of each video, or the truth of each toy film."""
    judged = folder / "GROUND_TRUTH.json"
    if judged.is_file():
        truth = json.loads(judged.read_text(encoding="utf-8"))
        return {name: t for name, t in truth.items() if isinstance(t, dict) and "scenes" in t}
    found = {}
    for path in sorted(folder.glob("film_*.json")):
        film = json.loads(path.read_text(encoding="utf-8"))
        found[film["video"]] = {
            "frames": film["num_frames"],
            "cuts": film["cuts"],
            "gradual": [[g["start_frame"], g["end_frame"] - 1] for g in film["gradual"]],
            "scenes": [list(range(s["start_shot"], s["end_shot"])) for s in film["scenes"]],
        }
    if not found:
        raise SystemExit(
            f"{folder} holds neither GROUND_TRUTH.json nor the film_*.json of toy films; give a "
            "folder that does."
        )
    return found


def _compare(truth: Mapping[str, Any], found: Grouping) -> Agreement:
    """Count pairs against the judged grouping, or its alternative where that agrees better."""
    judged = [truth["scenes"], truth.get("scenes_alternative")]
    counts = [_count(_labels(scenes, len(found)), found) for scenes in judged if scenes]
    return max(counts, key=lambda count: count.f1)


def _count(judged: Grouping, found: Grouping) -> Agreement:
    both = found_only = judged_only = 0
    for a, b in combinations(range(len(judged)), 2):
        same_judged, same_found = judged[a] == judged[b], found[a] == found[b]
        both += same_judged and same_found
        found_only += same_found and not same_judged
        judged_only += same_judged and not same_found
    return Agreement(both, found_only, judged_only)


def _labels(scenes: list[list[int]], num_shots: int) -> list[int]:
    labels = {shot: number for number, scene in enumerate(scenes) for shot in scene}
    if sorted(labels) != list(range(num_shots)):
        raise SystemExit(
            f"The judged scenes list shots {sorted(labels)}, but there are {num_shots} shots; "
            "correct GROUND_TRUTH.json."
        )
    return [labels[shot] for shot in range(num_shots)]


def _judged_spans(truth: Mapping[str, Any]) -> list[Span]:
    """Return the spans between judged boundaries, of which an opening fade-in is not one."""
    middles = [(first + last + 1) // 2 for first, last in truth["gradual"] if first > 0]
    starts = [0, *sorted([*truth["cuts"], *middles])]
    return list(zip(starts, [*starts[1:], truth["frames"]], strict=True))


def _scene_of(span: Span, shots: list[dict[str, Any]]) -> Hashable:
    """Return the scene of the found shot that covers most of `span`, or `span` if none does."""

    def covered(shot: dict[str, Any]) -> int:
        return max(0, min(span[1], shot["end_frame"]) - max(span[0], shot["start_frame"]))

    best = max(shots, key=covered, default=None)
    return span if best is None or best["scene_id"] is None else best["scene_id"]


def _arguments() -> argparse.Namespace:
    made = parser(__doc__, videos="videos and GROUND_TRUTH.json, or toy films with their truth")
    made.add_argument("curated", type=Path, help="what `filmweaver curate` made of them")
    return made.parse_args()


if __name__ == "__main__":
    main()
