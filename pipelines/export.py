"""Export of a published snapshot: its captioned scenes and their shots, in one of FORMATS.

`export.json` in the output says what was begun and, in the end, that it is complete; the same
command finishes an interrupted export. Runs in one process: it moves files and computes nothing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from fw_model.errors import ConfigError, DataError, InputError
from pipelines.exports.lance import check_lance, export_lance
from pipelines.exports.parquet import export_parquet
from pipelines.exports.snapshot import Snapshot
from pipelines.exports.webdataset import export_webdataset
from pipelines.storage.store import Store

MARKER = "export.json"
FORMATS = ("parquet", "webdataset", "lance")
EXPORT_VERSION = 2


@dataclass(frozen=True)
class ExportSummary:
    """What an export holds."""

    scenes: int
    shots: int


def run_export(
    curated: str, output: str, form: str, *, max_shard_bytes: int = 512 * 1024**2
) -> ExportSummary:
    """Export `curated` to the empty folder or URI `output`, or finish an interrupted export.

    Raises ConfigError for an unknown format or a missing package, DataError if nothing is
    captioned, InputError if the output holds something else.
    """
    if form not in FORMATS:
        raise ConfigError(f"There is no export format {form!r}; choose {', '.join(FORMATS)}.")
    if form == "lance":
        check_lance()
    snapshot, target = Snapshot(curated), Store(output)
    identity = {"version": EXPORT_VERSION, "format": form, "snapshot": snapshot.identity}
    if form == "webdataset":
        identity["max_shard_bytes"] = max_shard_bytes
    marker = _begin(target, identity)
    if marker.get("complete"):
        return ExportSummary(marker["scenes"], marker["shots"])
    summary = _count(snapshot, curated)
    if form == "parquet":
        export_parquet(snapshot, target)
    elif form == "webdataset":
        export_webdataset(snapshot, target, max_shard_bytes=max_shard_bytes)
    else:
        export_lance(snapshot, target)
    _mark(target, {**identity, **asdict(summary), "complete": True})
    return summary


def _begin(target: Store, identity: dict[str, Any]) -> dict[str, Any]:
    """Return the marker of this export; InputError if the output holds anything else."""
    if target.exists(MARKER):
        marker: dict[str, Any] = json.loads(target.read(MARKER))
        if {name: marker.get(name) for name in identity} != identity:
            raise InputError(
                f"{target.uri} holds a {marker.get('format')} export of other tables or settings; "
                "name another folder, or delete that one."
            )
        return marker
    if target.keys(""):
        raise InputError(
            f"{target.uri} holds files that are not an export; name an empty folder or a new one."
        )
    _mark(target, identity)
    return identity


def _mark(target: Store, marker: dict[str, Any]) -> None:
    target.write(MARKER, (json.dumps(marker, indent=1) + "\n").encode())


def _count(snapshot: Snapshot, curated: str) -> ExportSummary:
    sizes = snapshot.count()
    if not sizes:
        raise DataError(
            f"{curated} has no captioned scene; look at its report.html for why scenes were "
            "rejected."
        )
    return ExportSummary(len(sizes), sum(sizes))
