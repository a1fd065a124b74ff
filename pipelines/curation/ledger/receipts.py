"""What a commit hands on, and who made a row."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fw_model.schemas.curated_rows import ProvenanceRow
from pipelines.curation.ledger.ledger import Ledger

if TYPE_CHECKING:
    pass

RECEIPT = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("status", pa.string()),
        pa.field("key", pa.string()),
    ]
)
"""What a commit hands on."""


@dataclass(frozen=True)
class Provenance:
    """Who made a row: the settings, the code and the run."""

    config_hash: str
    code_version: str
    run_id: str

    def stamp(self) -> ProvenanceRow:
        """Return the provenance columns of a row made now."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return {
            "config_hash": self.config_hash,
            "code_version": self.code_version,
            "run_id": self.run_id,
            "created_at": now,
        }


def commit(ledger: Ledger, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Commit rows together and return their receipts."""
    if not rows:
        return RECEIPT.empty_table()
    key = ledger.commit(rows)
    receipts = [{"id": r[ledger.id_column], "status": r["status"], "key": key} for r in rows]
    return pa.Table.from_pylist(receipts, schema=RECEIPT)


def code_version() -> str:
    """Return a hash of the code that decides rows, so that a changed program is visible."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent.parent / "analysis"
    names = (
        "analyze", "keyframes", "frame_sampling", "shot_spans", "shot_tracker", "time_ranges",
        "video_stream",
    )  # fmt: skip
    for name in (*(f"{name}.py" for name in names), "../detectors"):
        path = folder / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
