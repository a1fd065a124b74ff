"""Hashes of the files of a model, by part: equal hashes mean equal results."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fw_model.files.fingerprint import fingerprint_folders
from fw_model.loading.config import ModelConfig
from fw_model.loading.folders import (
    clip_folder_of,
    find_part,
    load_record,
    starts_new,
    text_encoder_source,
    vae_folder,
)
from fw_model.loading.kinds import VAES

Part = Literal["transformer", "vae", "vae_encoder", "clip", "text_encoder"]
# Names in a VAE's folder that latents do not depend on.
DECODER = ("decoder", "post_quant_conv")


def model_fingerprint(config: ModelConfig) -> str:
    """Return a hash of a model's record and of the content of its files."""
    parts = part_fingerprint(config, ("transformer", "vae", "clip", "text_encoder"))
    return hashlib.sha256((load_record(config).model_dump_json() + parts).encode()).hexdigest()[:16]


def part_fingerprint(config: ModelConfig, parts: Sequence[Part]) -> str:
    """Return a hash of some parts of a model: the kind of each and the files that it loads."""
    prints = [
        fingerprint_folders(*_part_source(config, part), without=_irrelevant(config, part))
        for part in parts
    ]
    return hashlib.sha256("\n".join(prints).encode()).hexdigest()[:16]


def encoding_parts(config: ModelConfig) -> dict[str, str]:
    """Return the fingerprints of the parts that a transformer is trained with, by name.

    Only the encoder of the VAE counts: training its decoder further does not change latents.
    """
    parts: dict[str, Part] = {"vae": "vae_encoder", "text_encoder": "text_encoder"}
    return {name: part_fingerprint(config, (part,)) for name, part in parts.items()}


def _part_source(config: ModelConfig, part: Part) -> tuple[str, list[Path]]:
    """Return the kind of a part and the folders that its loader reads."""
    if part in ("vae", "vae_encoder"):
        return config.vae.kind, _present(vae_folder(config))
    if part == "clip":
        return config.embedder.kind, [clip_folder_of(config)]
    if part == "text_encoder":
        kind, folder = text_encoder_source(config)
        if folder is None or not (folder / "text_encoder").is_dir():
            return kind, _present(folder)
        return kind, [folder / "text_encoder", folder / "tokenizer"]
    if starts_new(config):
        return config.backbone.model_dump_json(), []
    return config.backbone.kind, _present(find_part(config, "transformer"))


def _irrelevant(config: ModelConfig, part: Part) -> tuple[str, ...]:
    """Return prefixes of names that a part does not depend on; none are known for outside code."""
    return DECODER if part == "vae_encoder" and config.vae.kind in VAES else ()


def _present(folder: Path | None) -> list[Path]:
    return [] if folder is None else [folder]
