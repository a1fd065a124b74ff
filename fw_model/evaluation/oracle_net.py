"""The oracle's network: reads place, light, scale and every figure off the frames of a toy film.

A map for each kind of figure says where it is; what lies under it says its hues and its box, and
how that changes over time says what the figure does.

B clips, F frames, K kinds of figure, D features, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

IMAGE_SIZE = 64
MAP_SIZE = 8


@dataclass(frozen=True)
class Vocabulary:
    """The words that the oracle tells apart, in the order of its outputs."""

    kinds: tuple[str, ...]
    places: tuple[str, ...]
    lights: tuple[str, ...]
    scales: tuple[str, ...]
    actions: tuple[str, ...]


@dataclass(frozen=True)
class OracleOutput:
    """What the network says of B clips of F frames; hues are vectors (cosine, sine)."""

    place: Tensor  # [B, F, places] logits
    light: Tensor  # [B, F, lights]
    scale: Tensor  # [B, F, scales]
    presence: Tensor  # [B, F, K] logits
    body_hue: Tensor  # [B, F, K, 2]
    trim_hue: Tensor  # [B, F, K, 2]
    boxes: Tensor  # [B, F, K, 4] x0, y0, x1, y1 in fractions of the frame
    maps: Tensor  # [B, F, K, h, w] logits: is the figure in this cell?
    action: Tensor  # [B, K, actions] logits over the whole clip


class OracleNet(nn.Module):
    """A small convolutional network; about 0.2 million parameters."""

    def __init__(self, vocabulary: Vocabulary, width: int = 96) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        kinds = len(vocabulary.kinds)
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(2),  # half the size at once: the first layers cost the most
            _conv(20, 32, stride=2),  # 3 colours and 2 coordinates of 4 pixels
            _conv(32, 48),
            _conv(48, 80, stride=2),
            _conv(80, width),
        )
        self.maps = nn.Conv2d(width, kinds, 1)
        self.scene = nn.Linear(
            2 * width, len(vocabulary.places) + len(vocabulary.lights) + len(vocabulary.scales)
        )
        slot = width + 4 + kinds  # features, centre and spread on the map, which kind
        self.figure = nn.Sequential(nn.Linear(slot, width), nn.GELU(), nn.Linear(width, 9))
        self.motion = nn.Sequential(
            nn.Conv1d(slot, 64, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(64, 64, 5, padding=4, dilation=2),
            nn.GELU(),
        )
        self.action = nn.Linear(128, len(vocabulary.actions))

    def forward(self, frames: Tensor) -> OracleOutput:
        """Read `frames` [B, 3, F, H, W] in [-1, 1]; F may be any number of at least one."""
        batch = frames.shape[0]
        features = self._features(rearrange(frames, "b c f h w -> (b f) c h w"))  # [BF, D, h, w]
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)
        scene = rearrange(self.scene(pooled), "(b f) n -> b f n", b=batch)
        place, light, scale = scene.split(
            [len(self.vocabulary.places), len(self.vocabulary.lights), len(self.vocabulary.scales)],
            dim=-1,
        )
        maps = self.maps(features)  # [BF, K, h, w]
        slots = _slots(features, maps)  # [BF, K, slot]
        figure = rearrange(self.figure(slots), "(b f) k n -> b f k n", b=batch)
        evidence = rearrange(maps.flatten(2).logsumexp(-1), "(b f) k -> b f k", b=batch)
        motion = self.motion(rearrange(slots, "(b f) k n -> (b k) n f", b=batch))  # [BK, 64, F]
        moved = torch.cat([motion.mean(-1), motion.amax(-1)], dim=1)
        return OracleOutput(
            place=place,
            light=light,
            scale=scale,
            presence=figure[..., 0] + evidence,
            body_hue=figure[..., 1:3],
            trim_hue=figure[..., 3:5],
            boxes=figure[..., 5:9],
            maps=rearrange(maps, "(b f) k h w -> b f k h w", b=batch),
            action=rearrange(self.action(moved), "(b k) n -> b k n", b=batch),
        )

    def _features(self, pictures: Tensor) -> Tensor:
        if pictures.shape[-2:] != (IMAGE_SIZE, IMAGE_SIZE):
            pictures = functional.interpolate(
                pictures, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True
            )
        axis = torch.linspace(-1, 1, IMAGE_SIZE, device=pictures.device)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        where = torch.stack([x, y]).expand(len(pictures), -1, -1, -1)
        features: Tensor = self.stem(torch.cat([pictures, where], dim=1))
        return features


def _slots(features: Tensor, maps: Tensor) -> Tensor:
    """Gather what lies under each kind's map: [BF, D, h, w] -> [BF, K, D + 4 + K]."""
    rows, columns = features.shape[2:]
    masks = maps.flatten(2).softmax(-1)  # [BF, K, h w]
    flat = rearrange(features, "n d h w -> n (h w) d")
    where = cell_centres(rows, columns).to(features.device)  # [h w, 2]
    centre = masks @ where  # [BF, K, 2]
    spread = (masks @ where.square() - centre.square()).clamp_min(0.0)
    kinds = torch.eye(masks.shape[1], device=features.device).expand(len(masks), -1, -1)
    return torch.cat([masks @ flat, centre, spread, kinds], dim=-1)


def cell_centres(rows: int, columns: int) -> Tensor:
    """Return x and y of the middle of each cell of a map in fractions of the frame, [h w, 2]."""
    y, x = torch.meshgrid(
        (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij"
    )
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def _conv(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.GroupNorm(8, outputs),
        nn.GELU(),
    )
