"""The rows of a part of an encoded dataset, and the ledger that says which videos it holds.

Knows nothing about how rows are made or where they are stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypedDict

import pyarrow as pa

from fw_model.schemas.encoded import SCHEMAS
from fw_model.schemas.encoded_rows import EncodedKeyframeRow, EncodedShotRow, EncodedTextRow

SOURCES = pa.schema(
    [
        ("video_id", pa.string()),
        ("captions_hash", pa.string()),  # of the scenes that were encoded
        ("uri", pa.string()),
        ("status", pa.string()),  # encoded | failed | empty
        ("detail", pa.string()),
        ("num_shots", pa.int32()),
        ("num_keyframes", pa.int32()),
    ]
)
TABLE_SCHEMAS = {**SCHEMAS, "sources": SOURCES}  # written last: it says what is complete


class SourceRow(TypedDict):
    """A row of SOURCES."""

    video_id: str
    captions_hash: str
    uri: str
    status: Literal["encoded", "failed", "empty"]
    detail: str
    num_shots: int
    num_keyframes: int


@dataclass
class PartRows:
    """Rows by table."""

    shots: list[EncodedShotRow] = field(default_factory=list)
    keyframes: list[EncodedKeyframeRow] = field(default_factory=list)
    texts: list[EncodedTextRow] = field(default_factory=list)
    sources: list[SourceRow] = field(default_factory=list)

    def tables(self) -> dict[str, pa.Table]:
        """Return the rows as Arrow tables by name."""
        return {
            name: pa.Table.from_pylist(getattr(self, name), schema=schema)
            for name, schema in TABLE_SCHEMAS.items()
        }
