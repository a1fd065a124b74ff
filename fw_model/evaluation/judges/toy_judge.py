"""The toy judge: what the frames of a toy film show, to compare with what was asked for.

A reading keeps probabilities frame by frame, so it can answer for any span of frames. The toy
judge's own accuracy on held-out films is saved with its weights and goes into every scorecard.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fw_model.errors import CheckpointError
from fw_model.evaluation.judges.toy_judge_net import ToyJudgeNet, Vocabulary
from fw_model.evaluation.stories.truth import Box, Pixels
from fw_model.loading.folders import TINY
from fw_model.media.video import uint8_to_frames

WEIGHTS_FILE = "toy_judge.safetensors"
CARD_FILE = "toy_judge.json"
PACKAGED_TOY_JUDGE = TINY / "toy_judge"
_FRAMES_AT_ONCE = 12  # as in training: in a longer span, a walking figure crosses the whole frame

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SeenFigure:
    """A figure in a span of frames: hues in degrees, probability that it is present."""

    kind: str
    presence: float
    body_hue_deg: float
    trim_hue_deg: float


@dataclass(frozen=True)
class ShotReading:
    """What the toy judge sees in a shot of F frames, frame by frame.

    An action is read over a part of about a second and assigned to all of its frames.
    """

    vocabulary: Vocabulary
    place: Floats  # [F, places] probabilities
    light: Floats  # [F, lights]
    scale: Floats  # [F, scales]
    presence: Floats  # [F, K]
    body_hue: Floats  # [F, K, 2] cosine, sine
    trim_hue: Floats  # [F, K, 2]
    boxes: Floats  # [F, K, 4]
    actions: Floats  # [F, K, actions] probabilities

    def place_in(self, start: int = 0, end: int | None = None) -> str:
        """Return the place seen in frames [start, end)."""
        return self.vocabulary.places[int(self.place[start:end].mean(0).argmax())]

    def light_in(self, start: int = 0, end: int | None = None) -> str:
        """Return the light seen in frames [start, end)."""
        return self.vocabulary.lights[int(self.light[start:end].mean(0).argmax())]

    def scale_in(self, start: int = 0, end: int | None = None) -> str:
        """Return the camera scale seen in frames [start, end)."""
        return self.vocabulary.scales[int(self.scale[start:end].mean(0).argmax())]

    def figures_in(self, start: int = 0, end: int | None = None) -> dict[str, SeenFigure]:
        """Return the figures that are probably in frames [start, end), by kind."""
        presence = self.presence[start:end].mean(0)
        return {
            kind: SeenFigure(
                kind=kind,
                presence=float(presence[i]),
                body_hue_deg=_hue(self.body_hue[start:end, i]),
                trim_hue_deg=_hue(self.trim_hue[start:end, i]),
            )
            for i, kind in enumerate(self.vocabulary.kinds)
            if presence[i] > 0.5
        }

    def action_of(self, kind: str, start: int = 0, end: int | None = None) -> str:
        """Return what the figure of `kind` does in frames [start, end)."""
        rows = self.actions[start:end, self.vocabulary.kinds.index(kind)]
        return self.vocabulary.actions[int(rows.mean(0).argmax())]

    def box_of(self, kind: str, frame: int) -> Box:
        """Return x0, y0, x1, y1 of the figure of `kind` in a frame, in fractions of the frame."""
        x0, y0, x1, y1 = self.boxes[frame, self.vocabulary.kinds.index(kind)].clip(0, 1).tolist()
        return x0, y0, x1, y1


class ToyJudge:
    """A trained network and its card: vocabulary, width, accuracy on held-out films."""

    def __init__(self, net: ToyJudgeNet, card: dict[str, Any] | None = None) -> None:
        self.net = net.float().eval()
        self.card = card or {}

    @property
    def vocabulary(self) -> Vocabulary:
        return self.net.vocabulary

    @classmethod
    def load(cls, folder: Path = PACKAGED_TOY_JUDGE) -> ToyJudge:
        """Load the toy judge of `folder`; CheckpointError if there is none."""
        try:
            card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
            words = {name: tuple(values) for name, values in card["vocabulary"].items()}
            net = ToyJudgeNet(Vocabulary(**words), card["width"])
            net.load_state_dict(load_file(folder / WEIGHTS_FILE))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                f"There is no usable toy judge in {folder} ({type(error).__name__}: {error}); "
                "train one with `filmweaver pretrain toy-judge FILMS OUTPUT`."
            ) from error
        return cls(net, card)

    def save(self, folder: Path, **measured: Any) -> None:
        """Write the weights in half precision, and a card with the vocabulary and `measured`."""
        folder.mkdir(parents=True, exist_ok=True)
        half = {name: value.half().contiguous() for name, value in self.net.state_dict().items()}
        save_file(half, folder / WEIGHTS_FILE)
        width = self.net.maps.in_channels
        card = {"vocabulary": asdict(self.vocabulary), "width": width, **measured}
        (folder / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")

    @torch.no_grad()
    def read(self, frames: Pixels) -> ShotReading:
        """Read the frames [F, H, W, 3] of one shot, part by part."""
        parts = np.array_split(frames, max(1, round(len(frames) / _FRAMES_AT_ONCE)))
        outputs = [self.net(uint8_to_frames(part)) for part in parts]

        def joined(name: str) -> torch.Tensor:
            return torch.cat([getattr(output, name)[0] for output in outputs])

        actions = [
            output.action[0].softmax(-1).expand(len(part), -1, -1)  # [F of the part, K, actions]
            for part, output in zip(parts, outputs, strict=True)
        ]
        return ShotReading(
            vocabulary=self.vocabulary,
            place=joined("place").softmax(-1).numpy(),
            light=joined("light").softmax(-1).numpy(),
            scale=joined("scale").softmax(-1).numpy(),
            presence=joined("presence").sigmoid().numpy(),
            body_hue=joined("body_hue").numpy(),
            trim_hue=joined("trim_hue").numpy(),
            boxes=joined("boxes").numpy(),
            actions=torch.cat(actions).numpy(),
        )


def fitting_weights(folder: Path, net: ToyJudgeNet) -> dict[str, torch.Tensor]:
    """Return the weights in `folder` that fit `net`; CheckpointError if none do."""
    try:
        saved = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"There is no toy judge in {folder}: {error}.") from error
    shapes = {name: weight.shape for name, weight in net.state_dict().items()}
    fitting = {n: w.float() for n, w in saved.items() if shapes.get(n) == w.shape}
    if not fitting:
        raise CheckpointError(
            f"No weight of the toy judge in {folder} fits this network; train from scratch."
        )
    return fitting


def hue_gap_deg(first: float, second: float) -> float:
    """Return the distance between two hues on the circle, 0 to 180 degrees."""
    return abs((first - second + 180.0) % 360.0 - 180.0)


def _hue(vectors: Floats) -> float:
    """Return the circular mean of hue vectors [F, 2], in degrees; uncertain frames count less."""
    cosine, sine = vectors.mean(0).tolist()
    return math.degrees(math.atan2(sine, cosine)) % 360.0
