"""The toy judge's network: reads place, light, scale and every figure in toy films.

A map for each kind of figure shows where it is; the features under it give its hues and its box.
The action of a figure is read from finer features in the window that its boxes span.

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
_FINE, _FINE_POINTS = 64, 6  # channels of a layer that windows sample, and points per side
_SHARP, _SHARP_POINTS = 16, 8  # of a sharper layer: a waving arm is only a few pixels
_ACTION = 96


@dataclass(frozen=True)
class Vocabulary:
    """The words that the toy judge distinguishes, in the order of its outputs."""

    kinds: tuple[str, ...]
    places: tuple[str, ...]
    lights: tuple[str, ...]
    scales: tuple[str, ...]
    actions: tuple[str, ...]


@dataclass(frozen=True)
class ToyJudgeOutput:
    """The network's outputs for B clips of F frames; hues are vectors (cosine, sine)."""

    place: Tensor  # [B, F, places] logits
    light: Tensor  # [B, F, lights]
    scale: Tensor  # [B, F, scales]
    presence: Tensor  # [B, F, K] logits
    body_hue: Tensor  # [B, F, K, 2]
    trim_hue: Tensor  # [B, F, K, 2]
    boxes: Tensor  # [B, F, K, 4] x0, y0, x1, y1 in fractions of the frame
    maps: Tensor  # [B, F, K, h, w] logits: is the figure in this cell?
    action: Tensor  # [B, K, actions] logits over the whole clip


class ToyJudgeNet(nn.Module):
    """A small convolutional network; about 0.7 million parameters."""

    def __init__(self, vocabulary: Vocabulary, width: int = 128) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        kinds, actions = len(vocabulary.kinds), len(vocabulary.actions)
        self.fine = nn.Sequential(
            nn.PixelUnshuffle(2),  # half the size at once: the first layers cost the most
            _conv(20, 48, stride=2),  # 3 colours and 2 coordinates of 4 pixels
            _conv(48, _FINE),
            _conv(_FINE, _FINE),
        )
        self.sharp = nn.Sequential(nn.PixelUnshuffle(2), _conv(20, _SHARP))
        self.coarse = nn.Sequential(_conv(_FINE, width, stride=2), _conv(width, width))
        self.maps = nn.Conv2d(width, kinds, 1)
        self.scene = nn.Linear(
            2 * width, len(vocabulary.places) + len(vocabulary.lights) + len(vocabulary.scales)
        )
        slot = width + 4 + kinds  # features, centre and spread on the map, which kind
        self.figure = nn.Sequential(nn.Linear(slot, width), nn.GELU(), nn.Linear(width, 9))
        self.window = nn.Linear(_FINE * _FINE_POINTS**2 + kinds, _ACTION)
        self.sharp_window = nn.Linear(_SHARP * _SHARP_POINTS**2, _ACTION)
        self.look = nn.Sequential(nn.GELU(), nn.Dropout(0.1))
        self.motion = nn.Sequential(
            nn.Conv1d(_ACTION, _ACTION, 5, padding=2),
            nn.GELU(),
            nn.Conv1d(_ACTION, _ACTION, 5, padding=4, dilation=2),
            nn.GELU(),
        )
        self.action = nn.Linear(2 * _ACTION, actions)

    def forward(self, frames: Tensor, true_boxes: Tensor | None = None) -> ToyJudgeOutput:
        """Read `frames` [B, 3, F, H, W] in [-1, 1]; F is at least one.

        In training, actions are read in `true_boxes` [B, F, K, 4], because the network's own are
        poor at first.
        """
        batch = frames.shape[0]
        pictures = _with_places(rearrange(frames, "b c f h w -> (b f) c h w"))  # [BF, 5, H, W]
        fine = self.fine(pictures)  # [BF, d, 2h, 2w]
        features = self.coarse(fine)  # [BF, D, h, w]
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], dim=1)
        scene = rearrange(self.scene(pooled), "(b f) n -> b f n", b=batch)
        place, light, scale = scene.split(
            [len(self.vocabulary.places), len(self.vocabulary.lights), len(self.vocabulary.scales)],
            dim=-1,
        )
        maps = self.maps(features)  # [BF, K, h, w]
        figure = self.figure(_slots(features, maps))  # [BF, K, 9]
        figure = rearrange(figure, "(b f) k n -> b f k n", b=batch)
        evidence = rearrange(maps.flatten(2).logsumexp(-1), "(b f) k -> b f k", b=batch)
        boxes = figure[..., 5:9]
        return ToyJudgeOutput(
            place=place,
            light=light,
            scale=scale,
            presence=figure[..., 0] + evidence,
            body_hue=figure[..., 1:3],
            trim_hue=figure[..., 3:5],
            boxes=boxes,
            maps=rearrange(maps, "(b f) k h w -> b f k h w", b=batch),
            action=self._actions(
                fine, self.sharp(pictures), boxes.detach() if true_boxes is None else true_boxes
            ),
        )

    def _actions(self, fine: Tensor, sharp: Tensor, boxes: Tensor) -> Tensor:
        """Return action logits [B, K, actions] from the features in the windows over `boxes`."""
        batch, frames, kinds, _ = boxes.shape
        seen = _windows(fine, boxes, _FINE_POINTS)  # [B, F, K, d * points]
        which = torch.eye(kinds, device=seen.device).expand(batch, frames, -1, -1)
        looks = self.window(torch.cat([seen, which], dim=-1))  # [B, F, K, a]
        looks = self.look(looks + self.sharp_window(_windows(sharp, boxes, _SHARP_POINTS)))
        moved = self.motion(rearrange(looks, "b f k a -> (b k) a f"))
        pooled = torch.cat([moved.mean(-1), moved.amax(-1)], dim=1)  # [BK, 2 a]
        logits: Tensor = self.action(pooled)
        return rearrange(logits, "(b k) n -> b k n", b=batch)


def _with_places(pictures: Tensor) -> Tensor:
    """Return pictures [N, 3, H, W] at the network's size, with x and y as two more channels."""
    if pictures.shape[-2:] != (IMAGE_SIZE, IMAGE_SIZE):
        pictures = functional.interpolate(
            pictures, (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear", antialias=True
        )
    axis = torch.linspace(-1, 1, IMAGE_SIZE, device=pictures.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    where = torch.stack([x, y]).expand(len(pictures), -1, -1, -1)
    return torch.cat([pictures, where], dim=1)


def _slots(features: Tensor, maps: Tensor) -> Tensor:
    """Gather the features under each kind's map: [BF, D, h, w] -> [BF, K, D + 4 + K]."""
    rows, columns = features.shape[2:]
    masks = maps.flatten(2).softmax(-1)  # [BF, K, h w]
    flat = rearrange(features, "n d h w -> n (h w) d")
    where = cell_centres(rows, columns).to(features.device)  # [h w, 2]
    centre = masks @ where  # [BF, K, 2]
    spread = (masks @ where.square() - centre.square()).clamp_min(0.0)
    kinds = torch.eye(masks.shape[1], device=features.device).expand(len(masks), -1, -1)
    return torch.cat([masks @ flat, centre, spread, kinds], dim=-1)


def _windows(layer: Tensor, boxes: Tensor, points: int) -> Tensor:
    """Sample a layer in one window per clip and kind: [BF, d, y, x] -> [B, F, K, d * points^2].

    The window spans the boxes [B, F, K, 4] of all frames, so a moving figure moves inside it.
    """
    batch, frames, kinds, _ = boxes.shape
    low, high = boxes[..., :2].amin(1), boxes[..., 2:].amax(1)  # [B, K, 2]
    steps = (torch.arange(points, device=boxes.device) + 0.5) / points
    at = low[:, :, None] + (high - low)[:, :, None] * steps[:, None]  # [B, K, points, (x, y)]
    x = at[:, :, None, :, 0].expand(-1, -1, points, -1)
    y = at[:, :, :, None, 1].expand(-1, -1, -1, points)
    grid = torch.stack([x, y], dim=-1) * 2 - 1  # [B, K, row, column, 2]
    grid = rearrange(grid, "b k r c n -> b (k r) c n").repeat_interleave(frames, dim=0)
    seen = functional.grid_sample(layer, grid, align_corners=False)  # [BF, d, K * row, column]
    return rearrange(seen, "(b f) d (k r) c -> b f k (d r c)", b=batch, k=kinds)


def cell_centres(rows: int, columns: int) -> Tensor:
    """Return x and y of the centre of each cell of a map in fractions of the frame, [h w, 2]."""
    y, x = torch.meshgrid(
        (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij"
    )
    return torch.stack([x.flatten(), y.flatten()], dim=1)


def _conv(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(8, outputs), nn.GELU()
    )
