"""The Inception Score of a set of films: are pictures clear and varied?

exp of the mean over pictures x of KL(p(y|x) || p(y)), p(y) the mean of p(y|x) over the set
(Salimans et al. 2016, "Improved Techniques for Training GANs"). It is the score of a set, not of
one story, so each story keeps sums from which the score of any set can be computed.
N pictures, C classes, D = C + 2.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self, TypedDict

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torchvision.models import inception_v3

from fw_model.errors import CheckpointError
from fw_model.evaluation.judges.config import InceptionConfig
from fw_model.evaluation.judges.weights import load_weights
from fw_model.evaluation.stories.truth import FilmedShot, Pixels, sampled_frames

Floats = NDArray[np.float64]

NUM_CLASSES = 1000
_SIDE_PX = 299
_BATCH_SIZE = 16
_AUXILIARY = "AuxLogits."  # used only in training


class InceptionSums(TypedDict):
    """What a story contributes to the score of a set.

    `sum_p_log_p` is over frames and classes; `sum_p` over frames: C numbers in float32,
    little-endian, base64, so that a story's file stays small.
    """

    num_frames: int
    sum_p_log_p: float
    sum_p: str


class Classifier(Protocol):
    """Classifies pictures."""

    def probabilities(self, pictures: Sequence[Pixels]) -> Floats:
        """Return p(y|x), [N, C], of pictures [H, W, 3]."""


class InceptionV3:
    """torchvision's network, trained on ImageNet."""

    def __init__(self, net: nn.Module, device: torch.device | str = "cpu") -> None:
        self._net = net.to(device).eval().requires_grad_(False)
        self._device = torch.device(device)

    @classmethod
    def load(cls, path: str | Path, *, device: torch.device | str = "cpu") -> Self:
        """Load torchvision's state dict; CheckpointError if the file is anything else."""
        state = {k: v for k, v in load_weights(path).items() if not k.startswith(_AUXILIARY)}
        if "fc.weight" not in state or len(state["fc.weight"]) != NUM_CLASSES:
            count = len(state["fc.weight"]) if "fc.weight" in state else "no"
            raise CheckpointError(
                f"{path} has {count} classes, but torchvision's inception_v3 has {NUM_CLASSES}; "
                "give its weights (the FID network, with 1008 classes, is a different one)."
            )
        net = inception_v3(weights=None, aux_logits=False, init_weights=False)
        try:
            net.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(f"{path} is not torchvision's inception_v3: {error}") from error
        return cls(net, device)

    @torch.no_grad()
    def probabilities(self, pictures: Sequence[Pixels]) -> Floats:
        rows = []
        for start in range(0, len(pictures), _BATCH_SIZE):
            batch = torch.cat([prepared(p) for p in pictures[start : start + _BATCH_SIZE]])
            logits = self._net(batch.to(self._device))  # [n, C]
            rows.append(logits.double().softmax(dim=-1).cpu().numpy())
        return np.concatenate(rows)


def prepared(picture: Pixels) -> torch.Tensor:
    """Return the whole picture as the network reads it: [1, 3, 299, 299] in [-1, 1].

    The authors of the score use this range. torchvision's own preprocessing also gives it, through
    ImageNet's mean and deviation (`transform_input`), but crops the border of the frame.
    """
    pixels = rearrange(torch.from_numpy(picture), "h w c -> 1 c h w").float()
    size = (_SIDE_PX, _SIDE_PX)
    scaled = functional.interpolate(
        pixels, size=size, mode="bilinear", align_corners=False, antialias=True
    )
    return scaled / 127.5 - 1.0


class InceptionJudge:
    """Computes what a story contributes to the score of a set of stories."""

    def __init__(self, classifier: Classifier, *, frames_per_shot: int) -> None:
        self._classifier = classifier
        self._frames_per_shot = frames_per_shot

    @classmethod
    def load(cls, config: InceptionConfig, *, device: torch.device | str = "cpu") -> Self | None:
        """Load the network if the config names one; CheckpointError if it does not load."""
        if config.weights is None:
            return None
        network = InceptionV3.load(config.weights, device=device)
        return cls(network, frames_per_shot=config.frames_per_shot)

    def payload(self, shots: Sequence[FilmedShot]) -> InceptionSums:
        """Return a story's sums over sampled frames."""
        frames = sampled_frames(shots, self._frames_per_shot)
        return payload_of(self._classifier.probabilities(frames))


def payload_of(probabilities: Floats) -> InceptionSums:
    """Return the sums of frames with the probabilities p(y|x), [N, C]."""
    sums = np.asarray(probabilities.sum(axis=0), dtype="<f4")  # [C]
    return {
        "num_frames": len(probabilities),
        "sum_p_log_p": float(_p_log_p(probabilities).sum()),
        "sum_p": base64.b64encode(sums.tobytes()).decode("ascii"),
    }


def inception_row(payload: InceptionSums) -> Floats:
    """Return a story's sums as a row [D]; rows add up over stories."""
    sums = np.frombuffer(base64.b64decode(payload["sum_p"]), dtype="<f4")
    return np.array([payload["num_frames"], payload["sum_p_log_p"], *sums], dtype=np.float64)


def inception_score(sums: Floats) -> Floats:
    """Return the scores [...] of sets from the sums [..., D] of their stories' rows."""
    num_frames, sum_p_log_p = sums[..., 0], sums[..., 1]
    marginal = sums[..., 2:] / num_frames[..., None]  # [..., C], p(y)
    # The mean of p(y|x) log p(y) over pictures is p(y) log p(y).
    mean_kl = sum_p_log_p / num_frames - _p_log_p(marginal).sum(axis=-1)
    return np.asarray(np.exp(mean_kl))


def _p_log_p(p: Floats) -> Floats:
    return np.asarray(p * np.log(np.where(p > 0, p, 1.0)))  # 0 log 0 is 0
