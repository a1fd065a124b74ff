"""Do shots end in the scenes that people judged them to be in?

    filmweaver curate FOLDER CURATED
    python benchmarks/scene_agreement.py FOLDER CURATED [--json FILE]

FOLDER holds toy films with their truth, or GROUND_TRUTH.json: {file: {"frames": N, "cuts": [...],
"gradual": [[first, last], ...], "scenes": [[shot, ...], ...], "scenes_alternative": a grouping as
good}}. Every pair of judged shots of a video is asked: one scene or two? A judged shot is in the
scene of the found shot that covers most of it; one that a filter dropped is alone. Pairs of all
videos are counted together; what each shot by itself and all shots of a video in one scene would
reach stands beside it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow.parquet as pq

Span = tuple[int, int]
Grouping = Sequence[Hashable]
"""The scene of each judged shot, in order."""


@dataclass(frozen=True)
class Agreement:
    """Counts of pairs of shots: in one scene for both, for the finder alone, for people alone."""

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


def main() -> None:
    """Compare, print, file."""
    arguments = _arguments()
    files = _judged_files(arguments.folder)
    table = pq.read_table(
        arguments.curated / "shots", columns=["uri", "start_frame", "end_frame", "scene_id"]
    )
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        rows.setdefault(Path(row["uri"]).name, []).append(row)
    finders: dict[str, Callable[[str, list[Span]], Grouping]] = {
        "found": lambda name, spans: [_scene_of(span, rows.get(name, [])) for span in spans],
        "every shot alone": lambda _, spans: list(range(len(spans))),
        "one scene a video": lambda _, spans: [0] * len(spans),
    }
    report: dict[str, Any] = {}
    for finder, group in finders.items():
        scores = {name: _compare(t, group(name, _judged_spans(t))) for name, t in files.items()}
        whole = sum(scores.values(), Agreement())
        report[finder] = {"f1": whole.f1, **vars(whole)}
        print(f"{finder:20} F1 {whole.f1:.3f}  one scene for both {whole.both}, ", end="")
        print(f"for the finder alone {whole.found_only}, for people alone {whole.judged_only}")
        if finder == "found":
            for name, score in list(scores.items())[:20]:
                print(f"  {name:34} {score.f1:.3f}  {len(_judged_spans(files[name]))} shots")
            report["files"] = {name: {"f1": s.f1, **vars(s)} for name, s in scores.items()}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _judged_files(folder: Path) -> dict[str, Any]:
    """Return what is judged of each video: from one file for all, or from each toy film's own."""
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
        raise SystemExit(f"{folder} holds neither GROUND_TRUTH.json nor film_*.json of toy films.")
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
        raise SystemExit(f"The judged scenes name shots {sorted(labels)} of {num_shots} shots.")
    return [labels[shot] for shot in range(num_shots)]


def _judged_spans(truth: Mapping[str, Any]) -> list[Span]:
    """Return the spans between judged boundaries; a fade in at the start of a file is none."""
    middles = [(first + last + 1) // 2 for first, last in truth["gradual"] if first > 0]
    starts = [0, *sorted([*truth["cuts"], *middles])]
    return list(zip(starts, [*starts[1:], truth["frames"]], strict=True))


def _scene_of(span: Span, shots: list[dict[str, Any]]) -> Hashable:
    """Return the scene of the found shot that covers most of `span`; the span where it has none."""

    def covered(shot: dict[str, Any]) -> int:
        return max(0, min(span[1], shot["end_frame"]) - max(span[0], shot["start_frame"]))

    best = max(shots, key=covered, default=None)
    return span if best is None or best["scene_id"] is None else best["scene_id"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="videos and GROUND_TRUTH.json")
    parser.add_argument("curated", type=Path, help="what filmweaver curate made of them")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
