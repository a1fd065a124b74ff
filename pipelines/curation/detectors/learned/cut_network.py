"""The small networks that judge a measured position (a cut?) or span (a transition?). NumPy only.

A file holds `mean` and `deviation` [F] of the features and, for each layer, `weight_i` [out, in]
and `bias_i` [out].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from fw_model.errors import ConfigError

Floats = NDArray[np.float32]

PACKAGED = Path(__file__).parent / "learned_cuts.safetensors"
MAX_DEVIATIONS = 6.0  # features are clipped to this many deviations from their mean


@dataclass(frozen=True)
class CutNetwork:
    """Layers with ReLU between them and a sigmoid at the end."""

    mean: Floats
    deviation: Floats
    layers: tuple[tuple[Floats, Floats], ...]

    def probability(self, features: Floats) -> Floats:
        """Return the probability of a cut for each row of features [N, F]: [N].

        Rows are computed one by one: the last digits of a product of matrices depend on how many
        rows there are, and must not depend on how frames are batched.
        """
        rows = [self._probability(row) for row in features]
        return np.array(rows, np.float32)

    def _probability(self, features: Floats) -> float:
        values = normalized(features, self.mean, self.deviation)
        for weight, bias in self.layers[:-1]:
            values = np.maximum(weight @ values + bias, 0.0)
        weight, bias = self.layers[-1]
        return 1.0 / (1.0 + math.exp(-float((weight @ values + bias)[0])))


def normalized(features: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Return features [N, F] in deviations from their mean, as the network reads them."""
    return np.clip((features - mean) / deviation, -MAX_DEVIATIONS, MAX_DEVIATIONS)


@lru_cache(maxsize=4)
def load_network(path: str, num_features: int) -> CutNetwork:
    """Read a network of `num_features` inputs; ConfigError if the file holds none."""
    try:
        return _network(load_file(path), num_features)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise ConfigError(
            f"The learned detector cannot use {path}: {error}. Set detector.options.path to a file "
            "that `filmweaver pretrain detector` of this version has written."
        ) from error


def _network(tensors: Mapping[str, Floats], num_features: int) -> CutNetwork:
    if len(tensors["mean"]) != num_features:
        raise ValueError(
            f"it was trained on {len(tensors['mean'])} features, and this version measures "
            f"{num_features}"
        )
    count = sum(name.startswith("weight_") for name in tensors)
    layers = tuple((tensors[f"weight_{i}"], tensors[f"bias_{i}"]) for i in range(count))
    return CutNetwork(tensors["mean"], tensors["deviation"], layers)
