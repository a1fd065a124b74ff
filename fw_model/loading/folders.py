"""Where each part of a model is.

A model folder has diffusers' layout (transformer/ vae/ scheduler/, and text_encoder/ and tokenizer/
for UMT5), an open_clip folder clip/, and filmweaver.json. A part that is missing from a checkpoint
comes from the model it was trained from.
"""

from __future__ import annotations

from pathlib import Path

from fw_model.errors import CheckpointError
from fw_model.loading.config import ModelConfig
from fw_model.loading.record import RECORD_FILE, ModelRecord, read_record

TINY = Path(__file__).parent.parent / "assets" / "tiny"


def with_whole_paths(config: ModelConfig) -> ModelConfig:
    """Return `config` with absolute paths: other processes run in other folders."""

    def whole(path: str | None) -> str | None:
        if path is None or path == "tiny" or not Path(path).expanduser().exists():
            return path  # a hub id, or a missing folder that its loader will report
        return str(Path(path).expanduser().absolute())

    parts = {name: getattr(config, name) for name in ("vae", "embedder", "text_encoder")}
    update: dict[str, object] = {
        name: part.model_copy(update={"path": whole(part.path)}) for name, part in parts.items()
    }
    update |= {"path": whole(config.path), "checkpoint": whole(config.checkpoint)}
    return config.model_copy(update=update)


def model_paths(config: ModelConfig) -> list[tuple[str, str]]:
    """Return the local folders that the model's settings name, each with the setting's name."""
    parts = {name: getattr(config, name).path for name in ("vae", "embedder", "text_encoder")}
    named = {"path": config.path, "checkpoint": config.checkpoint, **parts}
    return [
        (f"model ({name})", str(Path(path).expanduser().absolute()))
        for name, path in named.items()
        if path is not None
        and path != "tiny"
        and Path(path).expanduser().is_dir()
        and Path(path).expanduser().resolve() != TINY  # every installation has it
    ]


def load_record(config: ModelConfig) -> ModelRecord:
    """Return the record of the model, overridden by the settings of `config`."""
    found = next((f for f in model_folders(config) if (f / RECORD_FILE).is_file()), None)
    record = ModelRecord(base=config.path or "tiny") if found is None else read_record(found)
    over = {
        name: value
        for name in ("cache", "width", "height", "fps")
        if (value := getattr(config, name)) is not None
    }
    return record.model_copy(update=over)


def resolve_folder(path: str | None) -> Path:
    """Return the folder named by `path`: tiny (or None), a folder, or a hub id, fetched once."""
    if path is None or path == "tiny":
        return TINY
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if path.count("/") != 1 or folder.is_absolute() or path.startswith("."):
        raise CheckpointError(
            f"There is no model folder {path!r}; give a folder, tiny or a hub id."
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(path))
    except Exception as error:  # the hub raises many types
        raise CheckpointError(
            f"{path!r} is not a local folder, and the hub did not supply it "
            f"({type(error).__name__}); check the name and the network."
        ) from error


def model_folders(config: ModelConfig) -> list[Path]:
    """Return the folders to look for parts in: the checkpoint, then `path` or its base."""
    folders: list[Path] = []
    if config.checkpoint is not None:
        checkpoint = Path(config.checkpoint).expanduser()
        if not (checkpoint / "transformer" / "config.json").is_file():
            raise CheckpointError(
                f"There is no checkpoint in {config.checkpoint!r} (no transformer/config.json); "
                "give the model folder that `filmweaver train` wrote."
            )
        folders.append(checkpoint)
        if config.path is None and (checkpoint / RECORD_FILE).is_file():
            return [*folders, resolve_folder(read_record(checkpoint).base)]
    folders.append(resolve_folder(config.path))
    return folders


def find_part(config: ModelConfig, part: str) -> Path | None:
    return next((f / part for f in model_folders(config) if (f / part).is_dir()), None)


def require_part(config: ModelConfig, part: str) -> Path:
    found = find_part(config, part)
    if found is None:
        where = config.checkpoint or config.path or "tiny"
        raise CheckpointError(
            f"Neither the model {where!r} nor its base has a {part}/ folder; give a whole model."
        )
    return found


def clip_folder_of(config: ModelConfig) -> Path:
    if config.embedder.path:
        return Path(config.embedder.path)
    return find_part(config, "clip") or TINY / "clip"


def clip_folder(config: ModelConfig) -> Path | None:
    """Return the folder of the open_clip model; None for an embedder of another kind."""
    return clip_folder_of(config) if config.embedder.kind == "open_clip" else None


def vae_folder(config: ModelConfig) -> Path | None:
    return Path(config.vae.path) if config.vae.path else find_part(config, "vae")


def text_encoder_source(config: ModelConfig) -> tuple[str, Path | None]:
    """Return the kind of the text encoder (`auto` resolved) and the folder to load it from.

    For CLIP it is CLIP's own folder; for others, the model folder that holds text_encoder/ and
    tokenizer/.
    """
    kind, own = config.text_encoder.kind, config.text_encoder.path
    saved = find_part(config, "text_encoder")
    if kind == "auto":
        kind = "clip" if saved is None else "umt5"
    if own:
        return kind, Path(own)
    if kind == "clip":
        return kind, clip_folder_of(config)
    return kind, None if saved is None else saved.parent


def starts_new(config: ModelConfig) -> bool:
    """Return whether the transformer starts from random weights."""
    return config.backbone.scratch is not None and config.checkpoint is None
