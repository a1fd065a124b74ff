"""Loading a model folder: which part comes from where, and what was recorded about its caches.

A model folder has diffusers' layout (transformer/ vae/ scheduler/, text_encoder/ and tokenizer/
where the text is UMT5's), an open_clip folder clip/, and filmweaver.json. A part that a
checkpoint lacks comes from the model it was trained from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field

from fw_model.backbones.base import Backbone
from fw_model.cache.augment import AugmentConfig
from fw_model.cache.config import CacheConfig
from fw_model.config import StrictModel, validate
from fw_model.diffusion.guidance import SkipLayerGuidance
from fw_model.embedders.base import Embedder
from fw_model.errors import CheckpointError, ConfigError
from fw_model.files.fingerprint import fingerprint_folders
from fw_model.registry import resolve
from fw_model.text_encoders.base import TextEncoder
from fw_model.vaes.base import Codec

TINY = Path(__file__).parent.parent / "assets" / "tiny"
RECORD_FILE = "filmweaver.json"
Part = Literal["transformer", "vae", "vae_encoder", "clip", "text_encoder"]
# What of a VAE's folder latents do not depend on.
DECODER = ("decoder", "post_quant_conv")

BACKBONES = {"wan": "fw_model.backbones.wan:WanBackbone"}
CODECS = {"wan": "fw_model.vaes.wan:WanCodec"}
EMBEDDERS = {"open_clip": "fw_model.embedders.clip:OpenClipEmbedder"}
TEXT_ENCODERS = {
    "clip": "fw_model.text_encoders.clip:ClipTextEncoder",
    "umt5": "fw_model.text_encoders.umt5:Umt5TextEncoder",
}


class ModelRecord(StrictModel):
    """filmweaver.json: what a checkpoint was trained with, read back by whoever runs it."""

    base: str = Field(default="tiny", description="Model folder that supplies the parts not here.")
    cache: CacheConfig = Field(default_factory=CacheConfig, description="Shape of both caches.")
    augment: AugmentConfig = Field(
        default_factory=AugmentConfig, description="Noise that the caches carried in training."
    )
    width: int = Field(default=832, ge=8, description="Frame width, px.")
    height: int = Field(default=480, ge=8, description="Frame height, px.")
    fps: float = Field(default=16.0, gt=0, description="Frames per second.")
    num_inference_steps: int = Field(default=50, ge=1, description="Denoising steps that suit it.")
    guidance_scale: float = Field(default=5.0, ge=0, description="Guidance that suits it.")
    guidance_above: float = Field(
        default=0.0, ge=0, le=1, description="Noise level below which it needs none."
    )
    skip_layer_guidance: SkipLayerGuidance = Field(
        default=SkipLayerGuidance(), description="Guidance by fewer layers that suits it."
    )


class PartConfig(StrictModel):
    """One exchangeable part of a model."""

    kind: str = Field(description="A built-in kind, or module:Name for code of your own.")
    path: str | None = Field(default=None, description="Its folder; default: the model folder's.")


class BackboneConfig(PartConfig):
    """The transformer, or the shape of a new one."""

    kind: str = Field(default="wan", description="A built-in kind, or module:Name.")
    scratch: dict[str, Any] | None = Field(
        default=None,
        description="Start from random weights of this shape (arguments of the diffusers class) "
        "instead of saved ones.",
    )
    scratch_seed: int = Field(default=0, ge=0, description="Seed of the random weights.")


class ModelConfig(StrictModel):
    """Which model runs, and how."""

    path: str = Field(
        default="tiny", description="tiny, a model folder in diffusers' layout, or a hub id."
    )
    checkpoint: str | None = Field(
        default=None, description="Folder exported by training; its parts replace those of path."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, ...")
    dtype: Literal["float32", "bfloat16"] = Field(
        default="float32", description="Type of the transformer and the text encoder."
    )
    cache: CacheConfig | None = Field(
        default=None, description="Overrides the cache shape that the model records."
    )
    width: int | None = Field(default=None, ge=8, description="Frame width, px; default: recorded.")
    height: int | None = Field(
        default=None, ge=8, description="Frame height, px; default: recorded."
    )
    fps: float | None = Field(default=None, gt=0, description="Frames/s; default: recorded.")
    backbone: BackboneConfig = Field(default=BackboneConfig(), description="The transformer.")
    codec: PartConfig = Field(default=PartConfig(kind="wan"), description="The video VAE.")
    embedder: PartConfig = Field(
        default=PartConfig(kind="open_clip"), description="CLIP; retrieves keyframes, curates."
    )
    text_encoder: PartConfig = Field(
        default=PartConfig(kind="auto"),
        description="auto: umt5 where the model has one, else clip.",
    )

    def torch_device(self) -> torch.device:
        """Return the device that `device` names; auto prefers a GPU."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
        except RuntimeError as error:
            raise ConfigError(f"model.device {self.device!r} is no torch device.") from error
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                f"model.device is {self.device!r} but torch sees no GPU here; use cpu."
            )
        return device

    def torch_dtype(self) -> torch.dtype:
        """Return the torch type that `dtype` names."""
        return torch.bfloat16 if self.dtype == "bfloat16" else torch.float32


@dataclass(frozen=True)
class FilmModel:
    """Everything that generation needs, loaded."""

    backbone: Backbone
    codec: Codec
    embedder: Embedder
    text_encoder: TextEncoder
    record: ModelRecord
    config: ModelConfig
    scheduler_folder: Path | None


def load_model(config: ModelConfig) -> FilmModel:
    """Load every part of the model; CheckpointError says which part is missing or does not fit."""
    record = load_record(config)
    text_encoder = load_text_encoder(config)
    backbone = load_backbone(config)
    codec = load_codec(config)
    if text_encoder.width != backbone.text_width:
        raise CheckpointError(
            f"The text encoder gives width {text_encoder.width} but the transformer reads "
            f"{backbone.text_width}; give the text encoder that it was trained with."
        )
    if codec.latent_channels != backbone.latent_channels:
        raise CheckpointError(
            f"The VAE has {codec.latent_channels} latent channels but the transformer reads "
            f"{backbone.latent_channels}; give the VAE that it was trained with."
        )
    multiple = codec.spatial_factor * backbone.spatial_multiple
    if record.width % multiple or record.height % multiple:
        raise ConfigError(
            f"Frames of {record.width}x{record.height} px do not divide by {multiple}; "
            f"change model.width and model.height."
        )
    return FilmModel(
        backbone=backbone,
        codec=codec,
        embedder=load_embedder(config),
        text_encoder=text_encoder,
        record=record,
        config=config,
        scheduler_folder=_find(config, "scheduler"),
    )


def with_whole_paths(config: ModelConfig) -> ModelConfig:
    """Return `config` with its local folders named in full: other processes run elsewhere."""

    def whole(path: str | None) -> str | None:
        if path is None or path == "tiny" or not Path(path).expanduser().exists():
            return path  # a hub id, or what its loader will name as missing
        return str(Path(path).expanduser().absolute())

    parts = {name: getattr(config, name) for name in ("codec", "embedder", "text_encoder")}
    update: dict[str, Any] = {
        name: part.model_copy(update={"path": whole(part.path)}) for name, part in parts.items()
    }
    update |= {"path": whole(config.path), "checkpoint": whole(config.checkpoint)}
    return config.model_copy(update=update)


def load_record(config: ModelConfig) -> ModelRecord:
    """Return what the model records of itself, with the config's own settings laid over it."""
    found = next((f for f in _folders(config) if (f / RECORD_FILE).is_file()), None)
    record = ModelRecord(base=config.path) if found is None else read_record(found)
    over = {
        name: value
        for name in ("cache", "width", "height", "fps")
        if (value := getattr(config, name)) is not None
    }
    return record.model_copy(update=over)


def read_record(folder: Path) -> ModelRecord:
    """Read `folder`/filmweaver.json."""
    path = folder / RECORD_FILE
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"Cannot read {path}: {error}.") from error
    return validate(ModelRecord, tree, str(path))


def write_record(folder: Path, record: ModelRecord) -> None:
    """Write `folder`/filmweaver.json."""
    text = json.dumps(record.model_dump(mode="json"), indent=2) + "\n"
    (folder / RECORD_FILE).write_text(text, encoding="utf-8")


def load_backbone(config: ModelConfig) -> Backbone:
    """Load the transformer, ready to predict."""
    kind = resolve(config.backbone.kind, BACKBONES, "backbone")
    cache = load_record(config).cache
    if _is_new(config):
        backbone = kind.from_scratch(config.backbone.scratch, cache, config.backbone.scratch_seed)
        backbone = backbone.to(config.torch_dtype())
    else:
        folder = _require(config, "transformer").parent
        backbone = kind.load(folder, cache, config.torch_dtype())
    return backbone.to(config.torch_device()).eval()  # type: ignore[no-any-return]


def load_codec(config: ModelConfig) -> Codec:
    """Load the video VAE (float32: it is small beside the transformer, and exact)."""
    folder = _vae_folder(config) or _require(config, "vae")
    kind = resolve(config.codec.kind, CODECS, "codec")
    return kind.load(folder, device=config.torch_device(), dtype=torch.float32)  # type: ignore[no-any-return]


def load_embedder(config: ModelConfig) -> Embedder:
    """Load CLIP; the packaged one where the model brings none."""
    kind = resolve(config.embedder.kind, EMBEDDERS, "embedder")
    return kind.load(_clip_folder(config), device=config.torch_device())  # type: ignore[no-any-return]


def load_text_encoder(config: ModelConfig) -> TextEncoder:
    """Load UMT5 where the model has one, else CLIP's text tower, unless `kind` says which."""
    kind, folder = _text_encoder_source(config)
    encoder, device = resolve(kind, TEXT_ENCODERS, "text encoder"), config.torch_device()
    if kind == "clip":
        return encoder.load(folder, device=device)  # type: ignore[no-any-return]
    folder = folder or _require(config, "text_encoder").parent
    return encoder.load(folder, device=device, dtype=config.torch_dtype())  # type: ignore[no-any-return]


def model_fingerprint(config: ModelConfig) -> str:
    """Return a hash of a model's record and of what its files hold."""
    parts = part_fingerprint(config, ("transformer", "vae", "clip", "text_encoder"))
    return hashlib.sha256((load_record(config).model_dump_json() + parts).encode()).hexdigest()[:16]


def part_fingerprint(config: ModelConfig, parts: Sequence[Part]) -> str:
    """Return a hash of some parts of a model: of each its kind and what its loader reads."""
    prints = [
        fingerprint_folders(*_part_source(config, part), without=_not_read(config, part))
        for part in parts
    ]
    return hashlib.sha256("\n".join(prints).encode()).hexdigest()[:16]


def encoding_parts(config: ModelConfig) -> dict[str, str]:
    """Return the fingerprints of the parts that a transformer learns to speak to, by name.

    Of the VAE its encoder counts alone: a decoder may learn more and latents stay what they are.
    """
    parts: dict[str, Part] = {"vae": "vae_encoder", "text_encoder": "text_encoder"}
    return {name: part_fingerprint(config, (part,)) for name, part in parts.items()}


def resolve_folder(path: str) -> Path:
    """Return the folder that `path` names: tiny, a folder, or a hub id that is fetched once."""
    if path == "tiny":
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
    except Exception as error:  # the hub raises a zoo of types for one fact
        raise CheckpointError(
            f"{path!r} is neither a folder here nor a model that the hub gave: "
            f"{type(error).__name__}."
        ) from error


def _folders(config: ModelConfig) -> list[Path]:
    """Return where parts are looked for: the checkpoint, the model it came from, `path`."""
    folders: list[Path] = []
    if config.checkpoint is not None:
        checkpoint = Path(config.checkpoint).expanduser()
        if not (checkpoint / "transformer" / "config.json").is_file():
            raise CheckpointError(
                f"There is no checkpoint in {config.checkpoint!r} (no transformer/config.json); "
                f"give the checkpoint folder that `filmweaver train` wrote."
            )
        folders.append(checkpoint)
        if config.path == "tiny" and (checkpoint / RECORD_FILE).is_file():
            # Not the tiny model as well: what its base lacks it was not trained with.
            return [*folders, resolve_folder(read_record(checkpoint).base)]
    folders.append(resolve_folder(config.path))
    return folders


def _find(config: ModelConfig, part: str) -> Path | None:
    return next((f / part for f in _folders(config) if (f / part).is_dir()), None)


def _require(config: ModelConfig, part: str) -> Path:
    found = _find(config, part)
    if found is None:
        where = config.checkpoint or config.path
        raise CheckpointError(f"The model {where!r} has no {part}/ folder, nor has its base.")
    return found


def _clip_folder(config: ModelConfig) -> Path:
    if config.embedder.path:
        return Path(config.embedder.path)
    return _find(config, "clip") or TINY / "clip"


def clip_folder(config: ModelConfig) -> Path | None:
    """Return the folder of the open_clip model; None where an embedder of another kind is set."""
    return _clip_folder(config) if config.embedder.kind == "open_clip" else None


def _vae_folder(config: ModelConfig) -> Path | None:
    return Path(config.codec.path) if config.codec.path else _find(config, "vae")


def _text_encoder_source(config: ModelConfig) -> tuple[str, Path | None]:
    """Return the kind of the text encoder, `auto` decided, and the folder that it is loaded from.

    CLIP is a folder; others are text_encoder/ and tokenizer/ of a model folder.
    """
    kind, own = config.text_encoder.kind, config.text_encoder.path
    saved = _find(config, "text_encoder")
    if kind == "auto":
        kind = "clip" if saved is None else "umt5"
    if own:
        return kind, Path(own)
    if kind == "clip":
        return kind, _clip_folder(config)
    return kind, None if saved is None else saved.parent


def _is_new(config: ModelConfig) -> bool:
    """Tell whether the transformer starts from random weights."""
    return config.backbone.scratch is not None and config.checkpoint is None


def _part_source(config: ModelConfig, part: Part) -> tuple[str, list[Path]]:
    """Return the kind of a part and the folders that its loader reads; none where there is none."""
    if part in ("vae", "vae_encoder"):
        return config.codec.kind, _present(_vae_folder(config))
    if part == "clip":
        return config.embedder.kind, [_clip_folder(config)]
    if part == "text_encoder":
        kind, folder = _text_encoder_source(config)
        if folder is None or not (folder / "text_encoder").is_dir():
            return kind, _present(folder)
        return kind, [folder / "text_encoder", folder / "tokenizer"]
    if _is_new(config):
        return config.backbone.model_dump_json(), []
    return config.backbone.kind, _present(_find(config, "transformer"))


def _not_read(config: ModelConfig, part: Part) -> tuple[str, ...]:
    """Return how names begin that a part does not depend on; nobody knows it of others' code."""
    return DECODER if part == "vae_encoder" and config.codec.kind in CODECS else ()


def _present(folder: Path | None) -> list[Path]:
    return [] if folder is None else [folder]
