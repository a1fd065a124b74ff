"""Pictures of a film: shots as the camera sees them, joined by cuts, dissolves and fades.

F frames of a shot, H x W pixels. The same code renders any size; at 64x64 every picture is
supersampled four times. Knows nothing about files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.toyfilms.actions import Pose, pose_at
from pipelines.toyfilms.canvas import Canvas, ellipse, scaled
from pipelines.toyfilms.figures import Part, figure_parts, move_parts
from pipelines.toyfilms.places import Camera, landmark_xs, paint_place
from pipelines.toyfilms.story import FilmSpec, Role, ShotSpec
from pipelines.toyfilms.truth import Box, FilmTruth, FrameTruth, film_truth

RENDER_VERSION = 2
"""Raise it when the same seed and settings give other pixels: older films are then rendered,
evaluated and encoded again."""

_OUTLINE = 0.05  # in figure heights, half of it hidden under the fill
_HAT_OUTLINE = 0.03
_INK = (0.2, 0.17, 0.22)  # of the part's own colour
_PAN_RANGE = 0.14  # to each side, in frame widths
_LIGHT = {"day": (1.0,) * 3, "dusk": (0.96,) * 3, "night": (0.88,) * 3}  # grey keeps hues true


@dataclass(frozen=True)
class _Framing:
    """How a camera scale shows a figure; heights are fractions of the frame's.

    `zoom` enlarges the place, but less than the figure, because the place is further away.
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


class ShotRenderer:
    """Renders any frame of one shot; also before its start and past its end, for dissolves."""

    def __init__(self, film: FilmSpec, index: int, *, width: int, height: int) -> None:
        self.shot = film.shots[index]
        self._film = film
        self._place = film.places[self.shot.place]
        self._canvas = Canvas(width, height)
        self._framing = _FRAMINGS[self.shot.scale]
        self._backdrop: tuple[Camera, np.ndarray] | None = None

    def frame(self, number: int) -> tuple[np.ndarray, FrameTruth]:
        """Return frame `number` of the shot, uint8 [H, W, 3], and what is where in it."""
        camera = self._camera(number)
        self._paint_backdrop(camera)
        boxes = [self._paint_role(role, number, camera) for role in self.shot.roles]
        marks = landmark_xs(self._place, camera)
        truth = FrameTruth(camera_x=round(camera.x, 4), landmark_xs=marks, boxes=boxes)
        return self._canvas.frame(), truth

    def _camera(self, number: int) -> Camera:
        if self.shot.camera == "still":
            return Camera(self._framing.zoom)
        progress = 2 * number / max(1, self.shot.num_frames - 1) - 1
        offset = self.shot.pan_direction * _PAN_RANGE * progress
        return Camera(self._framing.zoom, offset / self._framing.zoom)

    def _paint_backdrop(self, camera: Camera) -> None:
        if self._backdrop is None or self._backdrop[0] != camera:
            paint_place(self._canvas, self._place, camera)
            self._backdrop = camera, self._canvas.pixels.copy()
        else:
            np.copyto(self._canvas.pixels, self._backdrop[1])

    def _paint_role(self, role: Role, number: int, camera: Camera) -> dict[str, Box]:
        time_s, vigour = number / self._film.fps, self._framing.vigour
        pose = pose_at(role.action, time_s, phase=role.phase, facing=role.facing, vigour=vigour)
        height, x = self._position(role, pose, camera)
        self._paint_shadow(x, height, pose)
        origin = np.array([x, self._framing.feet_y])
        unit = np.array([height / self._canvas.aspect, -height])
        parts = figure_parts(self._film.figures[role.figure], pose)
        parts = move_parts(parts, lambda points: points * unit + origin)
        self._paint_parts(parts, height)
        return _group_boxes(parts)

    def _position(self, role: Role, pose: Pose, camera: Camera) -> tuple[float, float]:
        """Return the height of a figure (frame heights) and where it is (frame widths)."""
        crowded = len(self.shot.roles) > 1
        height = self._framing.figure_height * (0.82 if crowded else 1.0)
        reach = self._framing.walk_range * (0.35 if crowded else 1.0)
        x = role.x if role.action != "walk" or crowded else 0.5
        return height, x + reach * pose.shift - camera.x * camera.zoom

    def _paint_shadow(self, x: float, height: float, pose: Pose) -> None:
        size = height * (1 - 0.5 * min(1.0, pose.lift / 0.3))
        shadow = ellipse(0, 0, 0.3 * size / self._canvas.aspect, 0.06 * size)
        self._canvas.shade(shadow + (x, self._framing.feet_y - 0.01), 0.72)

    def _paint_parts(self, parts: list[Part], height: float) -> None:
        """Outline the whole figure first, so that parts of one body flow together."""
        canvas, light = self._canvas, _LIGHT[self._place.light]
        fixed = move_parts(parts, canvas.fixed)
        for part in fixed:
            if part.outlined:
                canvas.stroke_fixed(part.points, scaled(part.colour, _INK), _OUTLINE * height)
        for part in fixed:
            if part.outlined and part.group == "hat":
                canvas.stroke_fixed(part.points, scaled(part.colour, _INK), _HAT_OUTLINE * height)
            canvas.fill_fixed(part.points, scaled(part.colour, light))


def zoom_of(scale: str) -> float:
    """Return how much a camera scale enlarges the place, about the middle of the frame."""
    return _FRAMINGS[scale].zoom


def render_shot(film: FilmSpec, index: int, *, width: int, height: int) -> np.ndarray:
    """Return the frames of one shot without its transitions, uint8 [F, H, W, 3]."""
    renderer = ShotRenderer(film, index, width=width, height=height)
    return np.stack([renderer.frame(n)[0] for n in range(film.shots[index].num_frames)])


def render_film(film: FilmSpec, *, width: int, height: int) -> tuple[np.ndarray, FilmTruth]:
    """Return all frames with transitions, uint8 [F, H, W, 3], and the film's truth."""
    pictures, truths = zip(*iter_film(film, width=width, height=height), strict=True)
    return np.stack(pictures), film_truth(film, truths)


def iter_film(
    film: FilmSpec, *, width: int, height: int
) -> Iterator[tuple[np.ndarray, FrameTruth]]:
    """Yield each frame of the film and its truth, holding no more than three shots in memory."""
    before = after = None
    renderer = ShotRenderer(film, 0, width=width, height=height)
    for index, shot in enumerate(film.shots):
        if after is not None:
            before, renderer = renderer, after
        is_last = index + 1 == len(film.shots)
        after = None if is_last else ShotRenderer(film, index + 1, width=width, height=height)
        for number in range(shot.num_frames):
            picture, truth = renderer.frame(number)
            to_cut = number - shot.num_frames
            if before and number < shot.transition_frames // 2:
                old, _ = before.frame(before.shot.num_frames + number)
                picture = _mixed(shot, old, picture, number)
            elif after and -to_cut <= after.shot.transition_frames // 2:
                new, _ = after.frame(to_cut)
                picture = _mixed(after.shot, picture, new, to_cut)
            yield picture, truth


def _mixed(shot: ShotSpec, old: np.ndarray, new: np.ndarray, offset: int) -> np.ndarray:
    """Blend two pictures `offset` frames after the start of `shot`; a fade is black half way."""
    progress = 0.5 + (offset + 0.5) / shot.transition_frames  # in 0..1
    if shot.transition_in == "dissolve":
        mixed = (1 - progress) * old.astype(np.float32) + progress * new.astype(np.float32)
    elif progress < 0.5:
        mixed = old * np.float32(1 - 2 * progress)
    else:
        mixed = new * np.float32(2 * progress - 1)
    return np.round(mixed).astype(np.uint8)


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
