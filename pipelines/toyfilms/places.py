"""The places: sky, ground and landmarks, painted with depth on a canvas.

A place keeps its hues, its horizon and its landmarks' positions in every shot; the camera zooms
in or moves along it. Knows nothing about figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipelines.toyfilms.canvas import (
    Canvas,
    Colour,
    capsule,
    directions,
    ellipse,
    hsv,
    rectangle,
    scaled,
)
from pipelines.toyfilms.story import Landmark, PlaceSpec

_LIGHT = {"day": (1.0, 1.0, 1.0), "dusk": (0.86, 0.68, 0.72), "night": (0.4, 0.43, 0.62)}
_PIVOT_Y = 0.62  # stays in place when the camera zooms
_FAR, _MIDDLE, _NEAR = 0.3, 0.65, 1.0


def _crescent() -> np.ndarray:
    """Points [32, 2] of a moon round the origin, open to the upper right."""
    outer = directions(np.linspace(np.radians(50), np.radians(310), 16))
    inner = directions(np.linspace(np.radians(285), np.radians(75), 16)) * 0.793 + (0.437, 0)
    shape = np.concatenate([outer, inner])
    tilt = np.radians(-25)
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    return 0.085 * shape @ turn


_CRESCENT = _crescent()


@dataclass(frozen=True)
class Camera:
    """How much the camera enlarges the place, and how far right it is, in frame widths."""

    zoom: float = 1.0
    x: float = 0.0

    def screen_x(self, x: float, depth: float = _MIDDLE) -> float:
        """Where a point of the place at a depth is on screen, in frame widths from the left."""
        return 0.5 + (x - 0.5 - self.x * depth) * self.zoom

    def screen_y(self, y: float) -> float:
        """How far down the screen it is, in frame heights from the top."""
        return _PIVOT_Y + (y - _PIVOT_Y) * self.zoom


class _Scenery:
    """A canvas seen through a camera, in the light of a place; radii are in frame heights."""

    def __init__(self, canvas: Canvas, place: PlaceSpec, camera: Camera) -> None:
        self.canvas = canvas
        self.place = place
        self.camera = camera
        self.light = _LIGHT[place.light]
        self.horizon = place.horizon

    def colour(self, hue: float, saturation: float, value: float) -> Colour:
        return scaled(hsv(hue, saturation, value), self.light)

    def fill(self, points: np.ndarray, colour: Colour, depth: float = _MIDDLE) -> None:
        """Fill a polygon [P, 2]: x in frame widths of the place, y in frame heights."""
        x = self.camera.screen_x(points[:, 0], depth)
        y = self.camera.screen_y(points[:, 1])
        self.canvas.polygon(np.stack([x, y], 1), colour)

    def fill_at(self, x: float, points: np.ndarray, colour: Colour, depth: float = _MIDDLE) -> None:
        """Fill a polygon [P, 2] round (x, 0), both axes in frame heights."""
        self.fill(points / (self.canvas.aspect, 1.0) + (x, 0.0), colour, depth)

    def gradient(self, top: float, bottom: float, first: Colour, last: Colour) -> None:
        self.canvas.gradient(self.camera.screen_y(top), self.camera.screen_y(bottom), first, last)

    def paint_landmarks(self, *kinds: str) -> None:
        """Paint the landmarks of these kinds; without `kinds`, all of them."""
        for mark in self.place.landmarks:
            if not kinds or mark.kind in kinds:
                _LANDMARKS[mark.kind][0](self, mark)


def paint_place(canvas: Canvas, place: PlaceSpec, camera: Camera) -> None:
    """Cover the canvas with the place as the camera sees it."""
    _PLACES[place.kind](_Scenery(canvas, place, camera))


def landmark_xs(place: PlaceSpec, camera: Camera) -> list[float]:
    """Where the landmarks of a place are on screen, in frame widths; may lie outside."""
    return [round(camera.screen_x(m.x, _LANDMARKS[m.kind][1]), 4) for m in place.landmarks]


def _sky(scenery: _Scenery) -> None:
    place = scenery.place
    hue = place.sky_hue
    if place.light == "day":
        colours = hsv(hue, 0.55, 0.95), hsv(hue - 10, 0.16, 1.0)
    elif place.light == "dusk":
        colours = hsv(hue, 0.55, 0.62), hsv(28 + (hue - 295) / 2, 0.62, 1.0)
    else:
        colours = hsv(hue, 0.75, 0.17), hsv(hue - 15, 0.6, 0.42)
    scenery.gradient(-0.7, place.horizon + 0.05, *colours)  # down to below the edge of every ground
    _sky_lights(scenery)


def _sky_lights(scenery: _Scenery) -> None:
    place = scenery.place
    if place.light == "night":
        moon = _CRESCENT + (0.0, place.sun_y)
        scenery.fill_at(place.sun_x, moon, (250, 246, 215), _FAR)
        for number in range(7):
            x = (place.sun_x + 0.17 + 0.137 * number) % 1.0
            y = 0.06 + 0.3 * ((number * 0.618) % 1.0)
            scenery.fill_at(x, ellipse(0, y, 0.012, 0.012), (255, 252, 225), _FAR)
        return
    low = place.light == "dusk"
    y = place.horizon - 0.1 if low else place.sun_y
    colour = (255, 214, 120) if low else (255, 240, 150)
    scenery.fill_at(place.sun_x, ellipse(0, y, 0.095, 0.095), colour, _FAR)
    cloud = hsv(340, 0.3, 0.95) if low else (255, 255, 255)
    for offset, height in ((0.38, 0.15), (0.74, 0.24)):
        x = (place.sun_x + offset) % 1.1 - 0.05
        for dx, radius in ((-0.07, 0.04), (0.0, 0.058), (0.075, 0.042)):
            scenery.fill_at(x, ellipse(dx, height, radius * 1.25, radius), cloud, _FAR)


def _ground(scenery: _Scenery, top: float, saturation: float, value: float) -> None:
    hue = scenery.place.ground_hue
    far = scenery.colour(hue, saturation * 0.85, value)
    scenery.gradient(top, 1.4, far, scenery.colour(hue, saturation, value * 0.8))


def _hills(scenery: _Scenery, height: float, colour: Colour, phase: float, depth: float) -> None:
    x = np.linspace(-0.6, 1.6, 40)
    base = scenery.horizon
    crest = base - height * (0.55 + 0.45 * np.sin(2 * np.pi * (x * 0.9 + phase)))
    ridge = np.stack([x, crest], 1)
    scenery.fill(np.concatenate([ridge, [[1.6, base + 0.05], [-0.6, base + 0.05]]]), colour, depth)


def _meadow(scenery: _Scenery) -> None:
    place = scenery.place
    _sky(scenery)
    far_hills = scenery.colour(place.ground_hue + 25, 0.4, 0.75)
    _hills(scenery, 0.15, far_hills, place.sun_x, _FAR)
    _ground(scenery, place.horizon, 0.62, 0.82)
    scenery.paint_landmarks()
    petals = hsv(place.accent_hue, 0.45, 1.0)
    for number in range(9):
        x = -0.1 + (number * 0.618 + place.sun_x) % 1.2
        y = place.horizon + 0.07 + 0.36 * ((number * 0.377) % 1.0)
        scenery.fill_at(x, ellipse(0, y, 0.016, 0.016), scaled(petals, scenery.light), _NEAR)


def _tree(scenery: _Scenery, mark: Landmark) -> None:
    base = scenery.horizon + 0.05
    size = mark.size
    trunk = scenery.colour(25, 0.55, 0.5)
    leaves = scenery.colour(95 + mark.hue / 4 - 45, 0.65, 0.62)
    lit = scenery.colour(95 + mark.hue / 4 - 45, 0.55, 0.76)
    scenery.fill_at(mark.x, rectangle(-0.025 * size, base - 0.2 * size, 0.025 * size, base), trunk)
    for dx, dy, radius in ((-0.08, 0.24, 0.1), (0.08, 0.25, 0.1), (0.0, 0.34, 0.12)):
        crown = ellipse(dx * size, base - dy * size, radius * size, radius * size)
        scenery.fill_at(mark.x, crown, leaves)
    scenery.fill_at(mark.x, ellipse(-0.03 * size, base - 0.36 * size, 0.05, 0.05), lit)


def _beach(scenery: _Scenery) -> None:
    place = scenery.place
    _sky(scenery)
    sea_hue = 168 + place.accent_hue / 6
    shore = place.horizon + 0.13
    deep, shallow = scenery.colour(sea_hue, 0.75, 0.72), scenery.colour(sea_hue, 0.5, 0.92)
    scenery.gradient(place.horizon, shore, deep, shallow)
    _ground(scenery, shore, 0.45, 0.98)
    x = np.linspace(-0.6, 1.6, 40)
    foam = shore + 0.008 * np.sin(2 * np.pi * x * 3)
    surf = np.concatenate([np.stack([x, foam], 1), np.stack([x, foam + 0.02], 1)[::-1]])
    scenery.fill(surf, scenery.colour(sea_hue, 0.08, 1.0))
    scenery.paint_landmarks()


def _palm(scenery: _Scenery, mark: Landmark) -> None:
    size = mark.size
    base = scenery.horizon + 0.17
    top_x, top_y = 0.06, base - 0.46 * size
    trunk = np.array([[-0.03, base], [0.03, base], [top_x + 0.018, top_y], [top_x - 0.018, top_y]])
    scenery.fill_at(mark.x, trunk, scenery.colour(28, 0.5, 0.58))
    leaf = scenery.colour(100 + mark.hue / 8, 0.7, 0.6)
    for angle in (-2.9, -2.3, -1.55, -0.85, -0.25):
        tip_x, tip_y = 0.2 * size * math.cos(angle), 0.15 * size * math.sin(angle) + 0.06
        frond = capsule(top_x, top_y, top_x + tip_x, top_y + tip_y, 0.05)
        scenery.fill_at(mark.x, frond, leaf)


def _boat(scenery: _Scenery, mark: Landmark) -> None:
    y = scenery.horizon + 0.035
    size = mark.size
    hull = np.array([[-0.11, y - 0.03], [0.11, y - 0.03], [0.07, y + 0.02], [-0.07, y + 0.02]])
    sail = np.array([[0.0, y - 0.04], [0.0, y - 0.24 * size], [0.1 * size, y - 0.04]])
    scenery.fill_at(mark.x, hull * (size, 1), scenery.colour(20, 0.6, 0.6), _FAR)
    scenery.fill_at(mark.x, sail, scenery.colour(mark.hue, 0.55, 1.0), _FAR)


def _city(scenery: _Scenery) -> None:
    place = scenery.place
    _sky(scenery)
    far = scenery.colour(place.sky_hue, 0.25, 0.7)
    for number in range(9):
        left = -0.3 + 0.2 * number
        top = scenery.horizon - (0.12 + 0.13 * ((number * 0.618 + place.sun_x) % 1.0))
        scenery.fill(rectangle(left, top, left + 0.17, scenery.horizon + 0.02), far, _FAR)
    scenery.paint_landmarks()
    _ground(scenery, place.horizon + 0.03, 0.1, 0.62)
    road = scenery.colour(place.ground_hue, 0.16, 0.4)
    scenery.gradient(place.horizon + 0.12, 1.4, road, road)
    for number in range(8):
        left = -0.45 + 0.25 * number
        dash = rectangle(left, place.horizon + 0.185, left + 0.12, place.horizon + 0.205)
        scenery.fill(dash, scenery.colour(50, 0.3, 1.0), _NEAR)


def _building(scenery: _Scenery, mark: Landmark) -> None:
    base = scenery.horizon + 0.04
    tall = mark.kind == "tower"
    half = 0.1 if tall else 0.14
    height = (0.44 if tall else 0.24) * mark.size
    wall = scenery.colour(mark.hue, 0.42, 0.86)
    scenery.fill_at(mark.x, rectangle(-half, base - height, half, base), wall)
    if not tall:
        roof = np.array([[-half - 0.03, base - height], [half + 0.03, base - height],
                         [0.0, base - height - 0.12]])  # fmt: skip
        scenery.fill_at(mark.x, roof, scenery.colour(mark.hue + 180, 0.5, 0.7))
    lit = scenery.place.light != "day"
    pane = (255, 226, 130) if lit else scenery.colour(205, 0.35, 0.98)
    for row in range(4 if tall else 1):
        for column in (-0.45, 0.45):
            y = base - height + 0.06 + 0.09 * row
            x = column * half
            scenery.fill_at(mark.x, rectangle(x - 0.025, y, x + 0.025, y + 0.05), pane)


def _desert(scenery: _Scenery) -> None:
    place = scenery.place
    _sky(scenery)
    scenery.paint_landmarks("mesa")
    _hills(scenery, 0.07, scenery.colour(place.ground_hue, 0.5, 0.8), place.sun_y * 4, _FAR)
    _ground(scenery, place.horizon, 0.56, 0.95)
    scenery.paint_landmarks("cactus")


def _mesa(scenery: _Scenery, mark: Landmark) -> None:
    base = scenery.horizon + 0.02
    top = base - 0.27 * mark.size
    half = 0.17 * mark.size
    rock = np.array([[-half - 0.07, base], [-half, top], [half, top], [half + 0.07, base]])
    scenery.fill_at(mark.x, rock, scenery.colour(8 + mark.hue / 18, 0.62, 0.72), _FAR)
    band = rectangle(-half - 0.015, top + 0.06, half + 0.015, top + 0.1)
    scenery.fill_at(mark.x, band, scenery.colour(8 + mark.hue / 18, 0.5, 0.85), _FAR)


def _cactus(scenery: _Scenery, mark: Landmark) -> None:
    size = mark.size
    base = scenery.horizon + 0.1
    colour = scenery.colour(90 + mark.hue / 6, 0.6, 0.6)
    limbs = [
        (0, 0, 0, 0.34, 0.09),
        (0, 0.12, -0.12, 0.12, 0.06),
        (-0.12, 0.12, -0.12, 0.24, 0.06),
        (0, 0.17, 0.12, 0.17, 0.06),
        (0.12, 0.17, 0.12, 0.29, 0.06),
    ]
    for x0, y0, x1, y1, width in limbs:
        limb = capsule(x0 * size, base - y0 * size, x1 * size, base - y1 * size, width * size)
        scenery.fill_at(mark.x, limb, colour)


def _mountains(scenery: _Scenery) -> None:
    place = scenery.place
    _sky(scenery)
    scenery.paint_landmarks("peak")
    _ground(scenery, place.horizon, 0.14, 1.0)
    scenery.paint_landmarks("pine")


def _peak(scenery: _Scenery, mark: Landmark) -> None:
    base = scenery.horizon + 0.01
    height, half = 0.44 * mark.size, 0.34 * mark.size
    rock = scenery.colour(mark.hue, 0.28, 0.6)
    snow = scenery.colour(mark.hue, 0.05, 1.0)
    top = base - height
    scenery.fill_at(mark.x, np.array([[-half, base], [0, top], [half, base]]), rock, _FAR)
    cap = np.array([[0, 0], [0.38, 0.38], [0.18, 0.3], [0.02, 0.42], [-0.16, 0.3], [-0.38, 0.38]])
    scenery.fill_at(mark.x, cap * (half, height) + (0, top), snow, _FAR)


def _pine(scenery: _Scenery, mark: Landmark) -> None:
    size = mark.size
    base = scenery.horizon + 0.08
    trunk = rectangle(-0.025, base - 0.06, 0.025, base)
    scenery.fill_at(mark.x, trunk, scenery.colour(25, 0.5, 0.42))
    needles = scenery.colour(120 + mark.hue / 6, 0.55, 0.5)
    for low, high, half in ((0.05, 0.22, 0.15), (0.16, 0.32, 0.12), (0.26, 0.42, 0.09)):
        tier = np.array([[-half, base - low], [half, base - low], [0, base - high]]) * (size, 1)
        scenery.fill_at(mark.x, (tier - (0, base)) * (1, size) + (0, base), needles)


def _room(scenery: _Scenery) -> None:
    place = scenery.place
    floor = place.horizon + 0.1
    soft = {"day": (1.0, 1.0, 1.0), "dusk": (0.95, 0.82, 0.78), "night": (0.62, 0.58, 0.68)}
    scenery.light = soft[place.light]
    wall = scenery.colour(place.accent_hue, 0.3, 0.92)
    scenery.gradient(-0.7, floor, wall, wall)
    stripe = scenery.colour(place.accent_hue, 0.38, 0.86)
    for number in range(11):
        left = -0.5 + 0.19 * number
        scenery.fill(rectangle(left, -0.7, left + 0.07, floor), stripe)
    _ground(scenery, floor, 0.5, 0.72)
    board = scenery.colour(place.ground_hue, 0.3, 0.98)
    scenery.fill(rectangle(-0.6, floor - 0.025, 1.6, floor + 0.01), board)
    scenery.paint_landmarks()


def _window(scenery: _Scenery, mark: Landmark) -> None:
    place = scenery.place
    half, top, bottom = 0.16 * mark.size, 0.14, 0.14 + 0.34 * mark.size
    frame = scenery.colour(mark.hue, 0.2, 1.0)
    glass = {
        "day": hsv(place.sky_hue, 0.4, 1.0),
        "dusk": hsv(26 + (place.sky_hue - 295) / 2, 0.65, 1.0),
        "night": hsv(place.sky_hue, 0.72, 0.24),
    }[place.light]
    scenery.fill_at(mark.x, rectangle(-half - 0.03, top - 0.03, half + 0.03, bottom + 0.03), frame)
    scenery.fill_at(mark.x, rectangle(-half, top, half, bottom), glass)
    if place.light == "night":
        scenery.fill_at(mark.x, ellipse(half * 0.4, top + 0.09, 0.045, 0.045), (250, 246, 215))
    scenery.fill_at(mark.x, rectangle(-0.012, top, 0.012, bottom), frame)
    middle = (top + bottom) / 2
    scenery.fill_at(mark.x, rectangle(-half, middle - 0.012, half, middle + 0.012), frame)


def _picture(scenery: _Scenery, mark: Landmark) -> None:
    half, top = 0.13 * mark.size, 0.2
    bottom = top + 0.22 * mark.size
    frame = rectangle(-half - 0.025, top - 0.025, half + 0.025, bottom + 0.025)
    scenery.fill_at(mark.x, frame, scenery.colour(35, 0.55, 0.55))
    canvas = rectangle(-half, top, half, bottom)
    scenery.fill_at(mark.x, canvas, scenery.colour(mark.hue, 0.5, 0.95))
    spot = ellipse(0, (top + bottom) / 2, half * 0.5, half * 0.5)
    scenery.fill_at(mark.x, spot, scenery.colour(mark.hue + 150, 0.5, 0.95))


_PLACES: dict[str, Callable[[_Scenery], None]] = {
    "meadow": _meadow,
    "beach": _beach,
    "city": _city,
    "desert": _desert,
    "mountains": _mountains,
    "room": _room,
}
_LANDMARKS: dict[str, tuple[Callable[[_Scenery, Landmark], None], float]] = {  # painter, depth
    "tree": (_tree, _MIDDLE),
    "palm": (_palm, _MIDDLE),
    "boat": (_boat, _FAR),
    "tower": (_building, _MIDDLE),
    "house": (_building, _MIDDLE),
    "cactus": (_cactus, _MIDDLE),
    "mesa": (_mesa, _FAR),
    "peak": (_peak, _FAR),
    "pine": (_pine, _MIDDLE),
    "window": (_window, _MIDDLE),
    "picture": (_picture, _MIDDLE),
}
