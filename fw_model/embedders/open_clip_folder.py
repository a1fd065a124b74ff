"""A CLIP model in a folder of open_clip's layout: config, safetensors, tokenizer files.

Knows nothing about films. `open_clip.push_to_hf_hub` writes this layout, so a folder from the hub
works unchanged.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import open_clip
import torch
from safetensors import SafetensorError

from fw_model.errors import CheckpointError

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"


def load_clip(folder: str | Path, device: torch.device | str) -> open_clip.CLIP:
    """Return the model, in float32 and ready to embed; CheckpointError if there is none."""
    _check(Path(folder))
    try:
        model = open_clip.create_model(f"local-dir:{folder}", device=device, precision="fp32")
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"The CLIP model in {folder} does not load: {error}") from error
    return model.eval().requires_grad_(False)


def load_tokenizer(folder: str | Path) -> open_clip.tokenizer.HFTokenizer:
    """Return the tokenizer: a callable from prompts to token ids [N, context length]."""
    _check(Path(folder))
    try:
        return open_clip.get_tokenizer(f"local-dir:{folder}")
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise CheckpointError(f"The CLIP tokenizer in {folder} does not load: {error}") from error


def clip_id(folder: str | Path) -> str:
    """Return a name for the weights: the folder's name and a hash of its files."""
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, *sorted(p.name for p in Path(folder).glob("*.safetensors"))):
        with (Path(folder) / name).open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return f"{Path(folder).name}-{digest.hexdigest()[:12]}"


def _check(folder: Path) -> None:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is not a CLIP folder: it has no {CONFIG_FILE}; give one in open_clip's "
            "layout."
        )
    try:
        json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not an open_clip config: {error!r}; copy the folder again."
        ) from error
