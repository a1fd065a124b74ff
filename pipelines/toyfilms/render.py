"""Pictures of a film: shots as the camera sees them, joined by cuts, dissolves and fades.

F frames of a shot, H x W pixels. The same code draws any size; at 64x64 every picture is
supersampled four times.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.toyfilms.actions import Pose, pose_at
from pipelines.toyfilms.canvas import Canvas, ellipse, scaled
from pipelines.toyfilms.figures import Part, figure_parts, joined_points, moved_parts
from pipelines.toyfilms.places import Camera, landmark_xs, paint_place
from pipelines.toyfilms.story import FilmSpec, Role, ShotSpec
from pipelines.toyfilms.truth import film_truth

RENDER_VERSION = 2
"""Raised when a film of the same seed and settings gets other pixels: what was drawn before is then
drawn, filmed and encoded anew."""

_OUTLINE = 0.05  # in figure heights, half of it hidden under the fill
_HAT_OUTLINE = 0.03
_INK = (0.2, 0.17, 0.22)  # of the part's own colour
_PAN_RANGE = 0.14  # to each side, in frame widths
_BRIGHTNESS = {"day": 1.0, "dusk": 0.96, "night": 0.88}  # grey, so that hues stay true


@dataclass(frozen=True)
class _Framing:
    """How a camera scale shows a figure; heights are fractions of the frame's.

    `zoom` enlarges the place: a camera that comes near makes what is far off little larger.
    """

    figure_height: float
    feet_y: float
    zoom: float
    walk_range: float
    vigour: float


_FRAMINGS = {
    "wide": _Framing(0.54, 0.92, 1.0, 0.28, 1.0),
    "medium": _Framing(0.76, 0.98, 1.12, 0.2, 0.7),
    "close": _Framing(1.2, 1.36, 1.3, 0.0, 0.45),
}

Box = list[float]  # [x0, y0, x1, y1] as fractions of the frame, clipped to it


@dataclass(frozen=True)
class FrameTruth:
    """Where the camera is, and the boxes of each role by group: figure, hat, prop."""

    camera: Camera
    boxes: tuple[dict[str, Box], ...]


class ShotRenderer:
    """Draws any frame of one shot, before its start and past its end too (for dissolves)."""

    def __init__(self, film: FilmSpec, index: int, *, width: int, height: int) -> None:
        self._film = film
        self._shot = film.shots[index]
        self._place = film.places[self._shot.place]
        self._canvas = Canvas(width, height)
        self._framing = _FRAMINGS[self._shot.scale]
        self._backdrop: tuple[Camera, np.ndarray] | None = None

    def frame(self, number: int) -> tuple[np.ndarray, FrameTruth]:
        """Return frame `number` of the shot, uint8 [H, W, 3], and what is where in it."""
        camera = self._camera(number)
        self._paint_backdrop(camera)
        boxes = tuple(self._draw_role(role, number, camera) for role in self._shot.roles)
        return self._canvas.frame(), FrameTruth(camera, boxes)

    def _camera(self, number: int) -> Camera:
        if self._shot.camera == "still":
            return Camera(self._framing.zoom)
        progress = 2 * number / max(1, self._shot.num_frames - 1) - 1
        offset = self._shot.pan_direction * _PAN_RANGE * progress
        return Camera(self._framing.zoom, offset / self._framing.zoom)

    def _paint_backdrop(self, camera: Camera) -> None:
        if self._backdrop is None or self._backdrop[0] != camera:
            paint_place(self._canvas, self._place, camera)
            self._backdrop = camera, self._canvas.pixels.copy()
        else:
            np.copyto(self._canvas.pixels, self._backdrop[1])

    def _draw_role(self, role: Role, number: int, camera: Camera) -> dict[str, Box]:
        figure = self._film.figures[role.figure]
        time_s = number / self._film.fps
        pose = pose_at(
            role.action,
            time_s,
            phase=role.phase,
            facing=role.facing,
            vigour=self._framing.vigour,
        )
        height, x = self._stand(role, pose, camera)
        self._draw_shadow(x, height, pose)
        origin = np.array([x, self._framing.feet_y])
        unit = np.array([height / self._canvas.aspect, -height])
        parts = figure_parts(figure, pose)
        parts = moved_parts(parts, joined_points(parts) * unit + origin)
        self._draw_parts(parts, height)
        return _group_boxes(parts)

    def _stand(self, role: Role, pose: Pose, camera: Camera) -> tuple[float, float]:
        """Return the height of a figure (frame heights) and where it is (frame widths)."""
        crowded = len(self._shot.roles) > 1
        height = self._framing.figure_height * (0.82 if crowded else 1.0)
        reach = self._framing.walk_range * (0.35 if crowded else 1.0)
        x = role.x if role.action != "walk" or crowded else 0.5
        return height, x + reach * pose.shift - camera.x * camera.zoom

    def _draw_shadow(self, x: float, height: float, pose: Pose) -> None:
        feet_y = self._framing.feet_y
        size = height * (1 - 0.5 * min(1.0, pose.lift / 0.3))
        shadow = ellipse(0, 0, 0.3 * size / self._canvas.aspect, 0.06 * size)
        self._canvas.shade(shadow + (x, feet_y - 0.01), 0.72)

    def _draw_parts(self, parts: list[Part], height: float) -> None:
        """Ink round the whole figure first, so that parts of one body flow together."""
        light = _BRIGHTNESS[self._place.light]
        grey = (light, light, light)
        fixed = [
            part.points for part in moved_parts(parts, self._canvas.fixed(joined_points(parts)))
        ]
        for part, points in zip(parts, fixed, strict=True):
            if part.outlined:
                self._canvas.stroke_fixed(points, scaled(part.colour, _INK), _OUTLINE * height)
        for part, points in zip(parts, fixed, strict=True):
            if part.outlined and part.group == "hat":
                ink = scaled(part.colour, _INK)
                self._canvas.stroke_fixed(points, ink, _HAT_OUTLINE * height)
            self._canvas.fill_fixed(points, scaled(part.colour, grey))


def zoom_of(scale: str) -> float:
    """Return how much a camera scale enlarges the place, about the middle of the frame."""
    return _FRAMINGS[scale].zoom


def render_shot(film: FilmSpec, index: int, *, width: int, height: int) -> np.ndarray:
    """Return the frames of one shot without its transitions, uint8 [F, H, W, 3]."""
    renderer = ShotRenderer(film, index, width=width, height=height)
    return np.stack([renderer.frame(n)[0] for n in range(film.shots[index].num_frames)])


def render_film(film: FilmSpec, *, width: int, height: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return all frames with transitions, uint8 [F, H, W, 3], and the film's truth as JSON."""
    pictures, truths = [], []
    for picture, truth in iter_film(film, width=width, height=height):
        pictures.append(picture)
        truths.append(truth)
    return np.stack(pictures), film_truth(film, truths)


def iter_film(
    film: FilmSpec, *, width: int, height: int
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Yield each frame of the film and its truth, holding no more than two shots in memory."""
    before: ShotRenderer | None = None
    for index, shot in enumerate(film.shots):
        renderer = ShotRenderer(film, index, width=width, height=height)
        after = film.shots[index + 1] if index + 1 < len(film.shots) else None
        following = None
        if after is not None and after.transition_frames:
            following = ShotRenderer(film, index + 1, width=width, height=height)
        for number in range(shot.num_frames):
            picture, truth = renderer.frame(number)
            if number < shot.transition_frames // 2 and before is not None:
                old, _ = before.frame(film.shots[index - 1].num_frames + number)
                progress = 0.5 + (number + 0.5) / shot.transition_frames
                picture = _mixed(shot.transition_in, old, picture, progress)
            elif following is not None and after is not None:
                left = number - (shot.num_frames - after.transition_frames // 2)
                if left >= 0:
                    new, _ = following.frame(left - after.transition_frames // 2)
                    progress = (left + 0.5) / after.transition_frames
                    picture = _mixed(after.transition_in, picture, new, progress)
            yield picture, _frame_truth(film, shot, truth)
        before = renderer


def _mixed(kind: str, old: np.ndarray, new: np.ndarray, progress: float) -> np.ndarray:
    """Blend two pictures at `progress` in 0..1; a fade goes through black half way."""
    if kind == "dissolve":
        mixed = (1 - progress) * old.astype(np.float32) + progress * new.astype(np.float32)
    elif progress < 0.5:
        mixed = old * np.float32(1 - 2 * progress)
    else:
        mixed = new * np.float32(2 * progress - 1)
    return np.round(mixed).astype(np.uint8)


def _frame_truth(film: FilmSpec, shot: ShotSpec, truth: FrameTruth) -> dict[str, Any]:
    return {
        "camera_x": round(truth.camera.x, 4),
        "landmark_xs": landmark_xs(film.places[shot.place], truth.camera),
        "boxes": [dict(boxes) for boxes in truth.boxes],
    }


def _group_boxes(parts: list[Part]) -> dict[str, Box]:
    """The box of the figure (hat included, prop not), of its hat and of its prop."""
    groups = {"figure": ("figure", "hat"), "hat": ("hat",), "prop": ("prop",)}
    boxes: dict[str, Box] = {}
    for name, members in groups.items():
        points = [part.points for part in parts if part.group in members]
        if points:
            stacked = np.clip(np.concatenate(points), 0.0, 1.0)
            corners = np.concatenate([stacked.min(axis=0), stacked.max(axis=0)])
            boxes[name] = [round(float(c), 4) for c in corners]
    return boxes
