"""Builds the module to train: a pretrained or new backbone, all weights or adapters only."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from peft import LoraConfig
from torch import nn

from fw_model.backbones.wan import WanBackbone
from fw_model.errors import CheckpointError, ConfigError, DataError
from fw_model.loading.config import ModelConfig
from fw_model.loading.fingerprints import encoding_parts
from fw_model.loading.load import load_backbone
from fw_model.schemas.encoded import EncodedMeta
from fw_model.training.config import LoraSettings, TrainingConfig
from fw_model.training.step import TrainingModel

_log = logging.getLogger(__name__)
_PART_NAMES = {"vae": "VAE", "text_encoder": "text encoder"}


def build_training_model(
    config: TrainingConfig, model: ModelConfig, meta: EncodedMeta
) -> TrainingModel:
    """Return the float32 module to train, on the CPU; it is the same in every process."""
    backbone = build_backbone(model, meta)
    if config.num_layers is not None:
        backbone.deepen(config.num_layers)
    _check_channel_weight(config, backbone)
    if config.gradient_checkpointing:
        backbone.transformer.enable_gradient_checkpointing()
    backbone.requires_grad_(True)
    if config.lora is not None:
        add_lora(backbone, config.lora)
    return TrainingModel(backbone, config, max_text_tokens=meta.max_text_tokens)


def build_backbone(model: ModelConfig, meta: EncodedMeta) -> WanBackbone:
    """Return the backbone that training starts from, in float32."""
    # Optimizer state and small updates need float32, whatever generation runs in.
    backbone = load_backbone(model.model_copy(update={"dtype": "float32", "device": "cpu"}))
    if not isinstance(backbone, WanBackbone):
        raise ConfigError(
            f"Only Wan backbones can be trained, but model.backbone.kind {model.backbone.kind!r} "
            f"is a {type(backbone).__name__}."
        )
    _check_fits(backbone, meta)
    return backbone.train()


def add_lora(backbone: WanBackbone, settings: LoraSettings) -> None:
    """Freeze the transformer and give it trainable adapters; tier embeddings stay trainable."""
    _check_targets(backbone, settings.targets)
    backbone.transformer.requires_grad_(False)
    backbone.transformer.add_adapter(
        LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            target_modules=list(settings.targets),
            init_lora_weights=True,
        )
    )


def merge_lora(backbone: WanBackbone) -> None:
    """Add the adapters to the weights they adapt, and remove them."""
    from diffusers.utils.peft_utils import recurse_remove_peft_layers
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in backbone.transformer.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
    recurse_remove_peft_layers(backbone.transformer)
    backbone.transformer._hf_peft_config_loaded = False


def check_encoded_with(model: ModelConfig, meta: EncodedMeta) -> None:
    """Raise DataError unless the dataset was encoded with the VAE and text encoder of `model`."""
    if not meta.parts:
        _log.warning(
            "the dataset comes from an older version and does not record its VAE and text encoder, "
            "so they cannot be compared with the model's"
        )
        return
    own = encoding_parts(model)
    for part, name in _PART_NAMES.items():
        if meta.parts.get(part) != own[part]:
            raise DataError(
                f"The dataset was encoded with another {name} ({meta.parts.get(part)}) than that "
                f"of model {model.checkpoint or model.path or 'tiny'!r} ({own[part]}); encode it "
                "again with the model to be trained."
            )


def _check_channel_weight(config: TrainingConfig, backbone: WanBackbone) -> None:
    weights = config.objective.channel_weight
    if weights is not None and len(weights) != backbone.latent_channels:
        raise ConfigError(
            f"training.objective.channel_weight has {len(weights)} weights but the model's latents "
            f"have {backbone.latent_channels} channels; give one weight per channel."
        )


def _check_targets(backbone: WanBackbone, targets: Sequence[str]) -> None:
    modules = dict(backbone.transformer.named_modules())
    linear = {name for name, module in modules.items() if isinstance(module, nn.Linear)}
    for target in targets:
        matching = {name for name in modules if name == target or name.endswith(f".{target}")}
        if not matching or matching - linear:
            known = sorted(
                {name.split(".", 3)[-1] for name in linear if name.startswith("blocks.")}
            )
            raise ConfigError(
                f"training.lora.targets names {target!r}, which is not a linear layer "
                f"of the transformer; its blocks have {', '.join(known)}."
            )


def _check_fits(backbone: WanBackbone, meta: EncodedMeta) -> None:
    if backbone.latent_channels != meta.latent_shape[0]:
        raise DataError(
            f"The dataset's latents have {meta.latent_shape[0]} channels but the transformer reads "
            f"{backbone.latent_channels}; encode with the model to be trained."
        )
    if backbone.text_width != meta.text_width:
        raise CheckpointError(
            f"The dataset's texts have width {meta.text_width} but the transformer reads "
            f"{backbone.text_width}; encode with the model to be trained."
        )
