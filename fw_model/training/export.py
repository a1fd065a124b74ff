"""Writes the trained model as a model folder: diffusers' layout and filmweaver.json.

The folder is read back and compared before the run counts as finished.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import Tensor

from fw_model.backbones.wan import WanBackbone
from fw_model.errors import CheckpointError
from fw_model.files.atomic import atomic_folder
from fw_model.loading.config import ModelConfig
from fw_model.loading.folders import load_record
from fw_model.loading.record import read_record, write_record
from fw_model.schemas.encoded import EncodedMeta
from fw_model.training.build import build_training_model, merge_lora
from fw_model.training.checkpoint import storage_errors
from fw_model.training.config import TrainingConfig
from fw_model.training.distributed import collect_on_first
from fw_model.training.ema import Ema
from fw_model.training.engine import TrainEngine

_log = logging.getLogger(__name__)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def collect_average(engine: TrainEngine, ema: Ema) -> dict[str, Tensor]:
    """Return the averaged weights on rank 0, an empty dict elsewhere (all ranks)."""
    state: dict[str, Tensor] = {}
    for name, weight in engine.weights():
        owner = ema.owner(name)
        own = ema[name] if owner == engine.rank else None
        value = collect_on_first(own, weight.shape, owner, engine.device)
        if value is not None:
            state[name] = value
    return state


def export_checkpoint(
    state: dict[str, Tensor],
    folder: Path,
    *,
    config: TrainingConfig,
    model: ModelConfig,
    meta: EncodedMeta,
) -> None:
    """Write the model with trained weights `state` to `folder`, replacing what was there."""
    backbone = trained_backbone(state, config=config, model=model, meta=meta)
    dtype = _DTYPES[config.export_dtype]
    frames = {"width": meta.width, "height": meta.height, "fps": meta.fps}
    recorded = load_record(model).model_copy(
        update={"base": _base(model), "augment": config.augment, **frames}
    )
    with storage_errors(f"write the trained model to {folder}"), atomic_folder(folder) as partial:
        backbone.save(partial, dtype=dtype)
        write_record(partial, recorded)
        _compare(partial, backbone, dtype)
    _log.info("trained model written to %s", folder)


def trained_backbone(
    state: dict[str, Tensor], *, config: TrainingConfig, model: ModelConfig, meta: EncodedMeta
) -> WanBackbone:
    """Return the backbone with trained weights `state`, adapters merged."""
    training_model = build_training_model(config, model, meta)
    missing, unexpected = training_model.load_state_dict(state, strict=False)
    trained = {name for name, p in training_model.named_parameters() if p.requires_grad}
    if unexpected or trained & set(missing):
        raise CheckpointError(
            f"The trained weights do not fit the model (unexpected {unexpected[:3]}, missing "
            f"{sorted(trained & set(missing))[:3]}); give another output folder."
        )
    if config.lora is not None:
        merge_lora(training_model.backbone)
    return training_model.backbone.eval()


def _compare(folder: Path, backbone: WanBackbone, dtype: torch.dtype) -> None:
    """Raise CheckpointError unless `folder` holds `backbone` rounded to `dtype`."""
    again = WanBackbone.load(folder, backbone.cache, dtype)
    written, read = backbone.state_dict(), again.state_dict()
    # Modules that diffusers keeps in float32 are rounded on disk too.
    differing = [
        name
        for name, tensor in written.items()
        if name not in read or not torch.equal(tensor.to(dtype), read[name].to(dtype))
    ]
    if differing or written.keys() != read.keys():
        raise CheckpointError(
            f"The exported model differs from the trained one ({len(differing)} weights, first: "
            f"{differing[:1]}); the training state is kept, so run the same command to export "
            "again."
        )


def _base(model: ModelConfig) -> str:
    """Return the model with the parts that training does not change."""
    if model.checkpoint is not None and model.path is None:
        return read_record(Path(model.checkpoint).expanduser()).base
    path = model.path or "tiny"
    folder = Path(path).expanduser()
    return str(folder.resolve()) if folder.is_dir() else path
