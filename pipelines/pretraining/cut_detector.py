"""Training of the learned shot detector's networks on films made from any footage.

The films are made and measured once, on all cores; the networks, some thousand numbers each, then
train within minutes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.numpy import save
from torch import nn
from torch.nn import functional

from fw_model.errors import DataError
from fw_model.files.atomic import write_atomic
from fw_model.pretraining.run import (
    EmaDecay,
    LogEvery,
    LoopConfig,
    Parts,
    SaveEvery,
    move,
    pretrain,
)
from pipelines.curation.detectors.learned.cut_network import CutNetwork, normalized
from pipelines.pretraining.cut_examples import Examples, load_examples

Floats = NDArray[np.float32]

EXAMPLES_FILE = "examples.npz"
TRAINING_SHARE = 0.9
LABEL_SMOOTHING = 0.01


class DetectorPretrainConfig(LoopConfig):
    """How the learned shot detector is trained."""

    num_films: int = Field(4800, ge=20, description="Films that are made of the footage.")
    steps: int = Field(6000, ge=1, description="Optimizer steps for each network.")
    widths: tuple[int, ...] = Field((64, 32), description="Units of the hidden layers.")
    true_per_step: int = Field(128, ge=1, description="Transitions in a step.")
    false_per_step: int = Field(384, ge=1, description="Other frames or spans in a step.")
    learning_rate: float = Field(3e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.02, ge=0, description="Weight decay.")
    dropout: float = Field(0.3, ge=0, lt=1, description="Share of units left out in a step.")
    feature_noise: float = Field(
        0.4,
        ge=0,
        description="Noise added to the features, in their standard deviations. Much noise makes "
        "the network rely on no single feature, which helps on other footage.",
    )
    ema_decay: EmaDecay = 0.99
    log_every: LogEvery = 500
    save_every: SaveEvery = 2000


def pretrain_detector(
    config: DetectorPretrainConfig, footage: Path, output: Path, *, num_workers: int
) -> dict[str, float]:
    """Train on films made of `footage`; return precision and recall on held-out films.

    Leaves `learned_cuts.safetensors` and `learned_gradual.safetensors` in `output`, and the runs'
    states in folders beside them. The last tenth of the films is held out.
    """
    output = Path(output)
    cuts, gradual = load_examples(
        footage,
        output / EXAMPLES_FILE,
        num_films=config.num_films,
        seed=config.seed,
        num_workers=num_workers,
    )
    measured: dict[str, float] = {}
    for kind, examples in (("cuts", cuts), ("gradual", gradual)):
        training, held_out = examples.split(TRAINING_SHARE)
        if not training.is_true.any() or training.is_true.all() or not held_out.is_true.any():
            raise DataError(
                f"The films made of {footage} hold too few transitions ({kind}); give more "
                "footage, or raise pretrain.detector.num_films."
            )
        file = output / f"learned_{kind}.safetensors"
        accuracy = _train(config, training, held_out, output / kind, file)
        measured |= {f"{kind}_{name}": value for name, value in accuracy.items()}
    return measured


def _train(
    config: DetectorPretrainConfig,
    training: Examples,
    held_out: Examples,
    output: Path,
    file: Path,
) -> dict[str, float]:
    """Train one network; write it to `file` and return its accuracy."""
    mean = training.features.mean(0)
    deviation = training.features.std(0) + np.float32(1e-3)
    torch.manual_seed(config.seed)
    network = _new_network(config, training.features.shape[1])
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    features = torch.from_numpy(normalized(training.features, mean, deviation))
    is_true = torch.from_numpy(training.is_true)
    groups = (
        (torch.nonzero(is_true)[:, 0], config.true_per_step),
        (torch.nonzero(~is_true)[:, 0], config.false_per_step),
    )

    def step(number: int, fraction: float) -> dict[str, torch.Tensor]:
        torch.manual_seed(config.seed * 1_000_003 + number)
        rows = torch.cat([group[torch.randint(len(group), (n,))] for group, n in groups])
        values = features[rows] + config.feature_noise * torch.randn(len(rows), features.shape[1])
        wanted = is_true[rows] * (1.0 - 2 * LABEL_SMOOTHING) + LABEL_SMOOTHING
        network.train()
        loss = functional.binary_cross_entropy_with_logits(network(values)[:, 0], wanted)
        move([optimizer], loss, fraction)
        return {"loss": loss}

    def export() -> dict[str, float]:
        trained = _trained(network, mean, deviation)
        write_atomic(file, _as_bytes(trained))
        return _accuracy(trained, held_out)

    parts: Parts = {"network": network, "optimizer": optimizer}
    data = f"{len(training.is_true)} examples, {int(training.is_true.sum())} of them true"
    return pretrain(
        config, parts, output, num_steps=config.steps, data=data, step=step, export=export
    )


def _new_network(config: DetectorPretrainConfig, num_features: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = num_features
    for width in config.widths:
        layers += [nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(config.dropout)]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 1))


def _trained(network: nn.Sequential, mean: Floats, deviation: Floats) -> CutNetwork:
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    layers = [(m.weight.detach().numpy().copy(), m.bias.detach().numpy().copy()) for m in linear]
    return CutNetwork(mean, deviation, tuple(layers))


def _as_bytes(network: CutNetwork) -> bytes:
    tensors = {"mean": network.mean, "deviation": network.deviation}
    for number, (weight, bias) in enumerate(network.layers):
        tensors |= {f"weight_{number}": weight, f"bias_{number}": bias}
    return save(tensors)


def _accuracy(network: CutNetwork, examples: Examples) -> dict[str, float]:
    found = network.probability(examples.features) >= 0.5
    right = int((found & examples.is_true).sum())
    return {
        "precision": right / max(1, int(found.sum())),
        "recall": right / max(1, int(examples.is_true.sum())),
    }
