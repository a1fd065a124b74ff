"""The contract between encoding and training: the encoded tables and their meta file.

Knows nothing about how rows are kept in memory. C channels, F latents, h x w latent cells, T text
tokens, D text width, E embedding width.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from fw_model.config import StrictModel, validate
from fw_model.errors import ConfigError, DataError

FORMAT_VERSION = 2
META_FILE = "meta.json"
TABLES = ("shots", "keyframes", "texts")
SHOTS = pa.schema(
    [
        ("shot_id", pa.string()),
        ("scene_id", pa.string()),
        ("video_id", pa.string()),
        ("index", pa.int32()),  # of the shot in its video
        ("text_id", pa.string()),
        ("num_frames", pa.int32()),  # at the dataset's fps, 4k + 1 for a 4x vae
        ("num_latents", pa.int32()),
        ("latents", pa.large_binary()),  # float16 [C, F, h, w], C order
    ]
)
KEYFRAMES = pa.schema(
    [
        ("keyframe_id", pa.string()),
        ("shot_id", pa.string()),
        ("frame", pa.int32()),  # number in the source video
        ("embedding", pa.list_(pa.float32())),  # [E], unit length
        ("latents", pa.large_binary()),  # float16 [C, 1, h, w]: the frame encoded alone
    ]
)
TEXTS = pa.schema(
    [
        ("text_id", pa.string()),
        ("text", pa.string()),
        ("num_tokens", pa.int32()),
        ("clip_embedding", pa.list_(pa.float32())),  # [E], unit length
        ("embedding", pa.large_binary()),  # float16 [T, D], without padding
    ]
)
SCHEMAS = {"shots": SHOTS, "keyframes": KEYFRAMES, "texts": TEXTS}


class EncodedMeta(StrictModel):
    """What all rows of an encoded dataset share (meta.json)."""

    format_version: int = Field(description="Version of this layout.")
    encode_hash: str = Field(description="Hash of everything that affects the rows.")
    height: int = Field(ge=1, description="Frame height in pixels.")
    width: int = Field(ge=1, description="Frame width in pixels.")
    fps: float = Field(gt=0, description="Frames per second.")
    latent_shape: tuple[int, int, int] = Field(
        description="Channels, rows and columns of a latent."
    )
    max_text_tokens: int = Field(ge=1, description="Tokens the text encoder pads to.")
    text_width: int = Field(ge=1, description="Width of a text token.")
    embedding_width: int = Field(ge=1, description="Width of a CLIP embedding.")
    files: tuple[str, ...] = Field(
        (), description="Names of the valid Parquet files, the same in the folder of each table."
    )
    models: dict[str, str] = Field(description="Names of the model, text encoder and embedder.")
    parts: dict[str, str] = Field(
        default_factory=dict,
        description="Fingerprints of the VAE and the text encoder; empty in old datasets.",
    )


def text_id(text: str) -> str:
    """Return the key of `text` in the texts table."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_meta(folder: Path) -> EncodedMeta:
    """Read `folder`/meta.json; DataError if it is missing or invalid."""
    path = folder / META_FILE
    if not path.is_file():
        raise DataError(
            f"{folder} is not an encoded dataset (it has no {META_FILE}); run `filmweaver encode` "
            "and give its output folder."
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error}); encode the dataset again.") from error
    return parse_meta(content, str(path))


def parse_meta(content: bytes, address: str) -> EncodedMeta:
    """Return the meta file at `address` from its content; DataError if it is invalid."""
    try:
        meta = validate(EncodedMeta, json.loads(content), address)
    except (ValueError, RecursionError, ConfigError) as error:
        raise DataError(f"{address} cannot be read ({error}); encode the dataset again.") from error
    if meta.format_version != FORMAT_VERSION:
        raise DataError(
            f"{address} has layout version {meta.format_version}, but this program reads "
            f"{FORMAT_VERSION}; encode the dataset again."
        )
    return meta
