"""Writes docs/results.md from benchmarks/results/*.json: `python -m benchmarks.scoreboard`.

Shows the first rows of each file, held-out figures first within a topic. `render` knows nothing of
how anything was measured; a test fails when the page is stale.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import PROJECT

RESULTS = PROJECT / "benchmarks" / "results"
PAGE = PROJECT / "docs" / "results.md"
HEADLINE_ROWS = 4
TOPICS: Mapping[str, Sequence[str]] = {
    "Cuts and scenes in real footage": (
        "cut_accuracy_held_out", "cut_accuracy", "scene_agreement",
    ),
    "What the caches bring (packaged tiny model, 100 stories)": ("caches", "rejudge", "ablation"),
    "The packaged tiny model": ("long_shot", "returns", "modes", "metric_checks"),
    "Exactness and crashes": ("exactness", "crash_tests"),
    "Speed": (
        "demo", "context_reuse", "curation_speed", "curation_growth", "curation_growth_s3",
        "toyfilm_speed",
    ),
}  # fmt: skip
HEAD = """# Results

Generated from `benchmarks/results/*.json` by `python -m benchmarks.scoreboard`; do not edit. Full
tables: [benchmarks/reports](../benchmarks/reports). What each script answers and the footage it
needs: [benchmarks/README.md](../benchmarks/README.md). **held out**: no setting or weight was
chosen with this footage in sight; **tuned on**: some were; –: nothing to tune. Commands use today's
names, which older commits may not have. Machines differ, so trust ratios before seconds. No GPU
figure has been measured yet.
"""
TABLE = """
| figure | value | footage | date | commit | hardware | command |
|---|---|---|---|---|---|---|
"""


def render(results: Mapping[str, Any]) -> str:
    """Return the page; results of no topic go under "Other"."""
    known = {name for names in TOPICS.values() for name in names}
    topics = {**TOPICS, "Other": sorted(set(results) - known)}
    parts = [HEAD]
    for topic, names in topics.items():
        rows = [
            (row, results[name])
            for name in names
            if name in results
            for row in results[name]["rows"][:HEADLINE_ROWS]
        ]
        if rows:
            rows.sort(key=lambda found: found[0]["held_out"] is not True)
            parts += [f"\n## {topic}\n", TABLE, *(_line(row, result) for row, result in rows)]
    return "".join(parts)


def load_results(folder: Path) -> dict[str, Any]:
    """Return the content of every result file by its name."""
    files = sorted(folder.glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}


def _line(row: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    footage = {True: "held out", False: "tuned on", None: "–"}[row["held_out"]]
    value = "not measured" if row["value"] is None else f"{row['value']:g} {row['unit']}".strip()
    note = f" ({row['note']})" if row["note"] else ""
    cells = (
        f"{row['metric']}{note}", value, footage,
        result["date"], result["commit"], result["hardware"], f"`{result['command']}`",
    )  # fmt: skip
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    PAGE.write_text(render(load_results(RESULTS)), encoding="utf-8")
