"""What every benchmark shares: its two options, the row of a result and the file that holds rows.

A result file has the keys name, rows, date, commit, hardware and command. The first rows of a file
are its headline: `benchmarks/scoreboard.py` shows those alone. Knows nothing of what is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent
FOOTAGE = {"held-out": True, "tuned-on": False, "unknown": None}
FIRST_HELD_OUT_SEED = 1_000_000  # no packaged weights have seen toy films from here on
QUICK_HELP = "a minute or less on two cores: shows that it works, measures nothing"


@dataclass(frozen=True)
class Row:
    """One figure. `held_out` is False where the footage was in sight while something was tuned,
    and None where nothing was tuned or nobody knows; `value` is None where there is none.
    """

    metric: str
    value: float | None
    unit: str = ""
    held_out: bool | None = None
    note: str = ""


def parser(docstring: str | None, *, videos: str | None = None) -> argparse.ArgumentParser:
    """Return a parser with --json and --quick, described by the docstring's first line.

    Where `videos` says what a folder of videos must hold, --videos and --footage are added.
    """
    made = argparse.ArgumentParser(description=(docstring or "").partition("\n")[0])
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    made.add_argument("--quick", action="store_true", help=QUICK_HELP)
    if videos is not None:
        default = os.environ.get("FILMWEAVER_TEST_VIDEOS")
        made.add_argument(
            "--videos", type=Path, metavar="FOLDER", default=Path(default) if default else None,
            required=default is None, help=f"{videos} (default: $FILMWEAVER_TEST_VIDEOS)",
        )  # fmt: skip
        made.add_argument(
            "--footage", choices=list(FOOTAGE), default="unknown",
            help="whether anything was tuned with this footage in sight",
        )  # fmt: skip
    return made


def report(arguments: argparse.Namespace, name: str, rows: Sequence[Row]) -> None:
    """Print `rows`, and write them to the file that --json names."""
    for row in rows:
        value = "not measured" if row.value is None else f"{row.value:.4g}"
        print(f"{row.metric:56} {value:>12} {row.unit:14} {row.note}".rstrip())
    if arguments.json is None:
        return
    result = {
        "name": name,
        "rows": [asdict(row) for row in rows],
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "hardware": _hardware(),
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(
        json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )


def scorecard_rows(scorecard: Mapping[str, Any], first_seed: int) -> list[Row]:
    """Return every measure of every variant of a `filmweaver evaluate` scorecard, and the full
    method minus each variant; the intervals are in the notes. `first_seed` is the first story's.
    """
    held_out = True if first_seed >= FIRST_HELD_OUT_SEED else None
    rows = [
        Row(f"{metric}, {variant}", found["mean"], held_out=held_out, note=_interval(found))
        for variant, metrics in scorecard["variants"].items()
        for metric, found in metrics.items()
        if found is not None
    ]
    return rows + [
        Row(f"{metric}, full minus {variant}", found["mean"], held_out=held_out,
            note=_interval(found))
        for variant, metrics in scorecard["full_minus"].items()
        for metric, found in metrics.items()
        if found is not None
    ]  # fmt: skip


def filmweaver(*words: str) -> None:
    """Run a `filmweaver` command, printed first as a user would type it."""
    print("$ " + shlex.join(["filmweaver", *words]), flush=True)
    subprocess.run([sys.executable, "-m", "cluster.cli", *words], check=True)


def _interval(found: Mapping[str, float]) -> str:
    return f"95 % interval {found['low']:.3g} to {found['high']:.3g}"


def _commit() -> str:
    """Return the short hash of the checkout, with "+" where files differ from it."""
    try:
        words = ["git", "-C", str(PROJECT), "describe", "--always", "--exclude=*", "--dirty=+"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _hardware() -> str:
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return ", ".join([f"{os.cpu_count()} cores of {processor}", *_gpus()])


def _gpus() -> list[str]:
    if "torch" not in sys.modules:
        return []
    import torch

    return [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
