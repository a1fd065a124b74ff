"""What a commit returns, and what made a row: settings, code and run."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import pyarrow as pa

from fw_model.schemas.curated_rows import ProvenanceRow
from pipelines.curation.ledger.ledger import WHOLE, Ledger, RowT
from pipelines.curation.ledger.shards import Shard
from pipelines.storage.arrow_rows import schema_of


class Receipt(TypedDict):
    """The file of a committed row, and the row's status."""

    id: str
    status: str
    key: str


RECEIPT = schema_of(Receipt)
CURATION = Path(__file__).parent.parent
SOURCES = (".py", ".md", ".safetensors")
MadeBy = Literal["analysis", "assembly", "captioning", "shot_files"]
CODE: Mapping[MadeBy, tuple[str, ...]] = {
    "analysis": ("analysis", "detectors", "perception"),
    "assembly": ("assembly",),
    "captioning": ("captioning", "captioners", "prompts", "../llm"),
    "shot_files": ("shot_files",),
}
"""The folders of pipelines/curation whose code decides each kind of row."""


@dataclass(frozen=True)
class Provenance:
    """What made a row: the settings, the code and the run."""

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


def commit(ledger: Ledger[RowT], rows: Sequence[RowT], shard: Shard = WHOLE) -> pa.Table:
    """Commit rows of a shard together and return their receipts."""
    key = ledger.commit(rows, shard) if rows else ""
    receipts = [{"id": r[ledger.id_column], "status": r["status"], "key": key} for r in rows]
    return pa.Table.from_pylist(receipts, schema=RECEIPT)


def code_version(made_by: MadeBy, folder: Path = CURATION) -> str:
    """Return a hash of the code that makes these rows, so that a changed program is visible."""
    digest = hashlib.sha256()
    for name in CODE[made_by]:
        for file in sorted(path for path in (folder / name).rglob("*") if path.suffix in SOURCES):
            digest.update(f"{file.relative_to(folder / name)}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
