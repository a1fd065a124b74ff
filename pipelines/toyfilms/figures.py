"""The characters, as lists of coloured polygons in the figure's own space.

Origin between the feet, y upwards, one unit from the soles to the crown of the head.
Knows nothing about places or the camera.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipelines.toyfilms.actions import Pose
from pipelines.toyfilms.canvas import Colour, capsule, directions, ellipse, hsv, rectangle
from pipelines.toyfilms.story import FigureSpec

_HEAD_Y = 0.64
_SHOULDER_Y = 0.43
_SEAT_DROP = 0.12
_INK = (38, 32, 44)
_WHITE = (250, 248, 244)
_BEAK = (250, 176, 40)
_WOOD = (140, 98, 62)


@dataclass(frozen=True)
class Part:
    """One polygon [P, 2] of a figure. `group` is seat, figure, hat or prop."""

    points: np.ndarray
    colour: Colour
    group: str = "figure"
    outlined: bool = True


@dataclass(frozen=True)
class _Palette:
    body: Colour
    light: Colour
    shade: Colour
    trim: Colour
    trim_light: Colour
    prop: Colour
    prop_light: Colour


def figure_parts(figure: FigureSpec, pose: Pose) -> list[Part]:
    """Return the parts of a figure in a pose, back to front."""
    palette = _Palette(
        body=hsv(figure.body_hue, 0.72, 0.93),
        light=hsv(figure.body_hue, 0.22, 1.0),
        shade=hsv(figure.body_hue, 0.78, 0.74),
        trim=hsv(figure.trim_hue, 0.8, 0.88),
        trim_light=hsv(figure.trim_hue, 0.18, 1.0),
        prop=hsv(figure.prop_hue, 0.75, 0.95),
        prop_light=hsv(figure.prop_hue, 0.3, 1.0),
    )
    upper = [
        *_back(figure.kind, palette),
        *_prop(figure, palette, pose),
        *_torso(figure, palette, pose),
        *_arms(figure, palette, pose),
        *_head(figure.kind, palette, pose),
        *_hat(figure, palette, pose),
    ]
    lower = _legs(figure.kind, palette, pose)
    if pose.sitting:
        upper = move_parts(upper, lambda points: points - (0.0, _SEAT_DROP))
        seat = Part(rectangle(-0.4, 0.0, 0.4, 0.17), _WOOD, "seat")
        return [seat, *_posed([*upper, *lower], pose)]
    return _posed([*lower, *upper], pose)


def move_parts(parts: list[Part], move: Callable[[np.ndarray], np.ndarray]) -> list[Part]:
    """Apply `move` once to the points of all parts, [sum of all P, 2]: one call is much faster."""
    points = move(np.concatenate([part.points for part in parts]))
    moved, start = [], 0
    for part in parts:
        stop = start + len(part.points)
        moved.append(Part(points[start:stop], part.colour, part.group, part.outlined))
        start = stop
    return moved


def _posed(parts: list[Part], pose: Pose) -> list[Part]:
    """Stretch, turn about the upright axis, lean about the feet, lift."""
    turn = math.copysign(max(0.35, abs(pose.turn)), pose.turn)
    scale = (turn / math.sqrt(pose.stretch), pose.stretch)
    cos, sin = math.cos(pose.lean), math.sin(pose.lean)
    lean = np.array([[cos, -sin], [sin, cos]])
    return move_parts(parts, lambda points: (points * scale) @ lean + (0.0, pose.lift))


def _legs(kind: str, palette: _Palette, pose: Pose) -> list[Part]:
    if kind == "ghost":
        return []
    width = 0.05 if kind == "bird" else 0.11
    colour = _BEAK if kind == "bird" else palette.shade
    parts = []
    for side in (-1, 1):
        if pose.sitting:
            foot = side * 0.19
            parts.append(Part(capsule(side * 0.1, 0.16, foot, 0.1, width), colour))
            parts.append(Part(ellipse(foot, 0.08, 0.09, 0.085), colour))
            continue
        swing = side * pose.stride * 0.16
        foot = side * 0.1 + swing
        rise = max(0.0, side * pose.stride * pose.facing) * 0.05
        parts.append(Part(capsule(side * 0.09, 0.2, foot, 0.06 + rise, width), colour))
        toe = foot + 0.025 * pose.facing
        parts.append(Part(ellipse(toe, 0.045 + rise, 0.085, 0.05), colour))
    return parts


def _back(kind: str, palette: _Palette) -> list[Part]:
    """The cat's tail, the rabbit's puff."""
    if kind == "cat":
        tail = [(0.12, 0.2), (0.32, 0.22), (0.4, 0.36), (0.34, 0.52)]
        return [
            Part(capsule(*start, *stop, 0.09), palette.shade)
            for start, stop in zip(tail, tail[1:], strict=False)
        ]
    if kind == "rabbit":
        return [Part(ellipse(0.2, 0.16, 0.08, 0.08), palette.light)]
    return []


def _torso(figure: FigureSpec, palette: _Palette, pose: Pose) -> list[Part]:
    if figure.kind == "ghost":
        return [*_ghost_sheet(palette, pose), *_clothes(figure, palette, 0.19, 0.13)]
    if figure.kind == "robot":
        shell = Part(rectangle(-0.22, 0.12, 0.22, 0.46), palette.trim)
        return [shell, *_pattern(figure.pattern, palette, 0.22)]
    if figure.kind == "bird":
        egg = Part(ellipse(0, 0.5, 0.29, 0.39), palette.body)
        return [egg, *_clothes(figure, palette, 0.2, 0.17)]
    return _clothes(figure, palette, 0.2, 0.21)


def _ghost_sheet(palette: _Palette, pose: Pose) -> list[Part]:
    dome = directions(np.linspace(0, np.pi, 14)) * (0.3, 0.28) + (0, _HEAD_Y)
    ripple = np.linspace(-0.33, 0.33, 31)
    drift = 0.05 * pose.stride * pose.facing
    hem = np.stack([ripple - drift, 0.05 + 0.045 * np.cos(ripple / 0.33 * 3 * np.pi)], 1)
    return [Part(np.concatenate([dome, hem]), palette.body)]


def _clothes(figure: FigureSpec, palette: _Palette, half_x: float, half_y: float) -> list[Part]:
    return [
        Part(ellipse(0, 0.3, half_x, half_y), palette.trim),
        *_pattern(figure.pattern, palette, half_x),
    ]


def _pattern(pattern: str, palette: _Palette, half_x: float) -> list[Part]:
    colour = palette.trim_light
    if pattern == "stripes":
        bars = [capsule(-0.75 * half_x, y, 0.75 * half_x, y, 0.05) for y in (0.25, 0.36)]
        return [Part(bar, colour, outlined=False) for bar in bars]
    if pattern == "dots":
        spots = [(-0.4, 0.36), (0.45, 0.33), (0.0, 0.24)]
        return [
            Part(ellipse(x * half_x, y, 0.035, 0.035), colour, outlined=False) for x, y in spots
        ]
    if pattern == "star":
        radius = np.where(np.arange(10) % 2 == 0, 0.12, 0.05)[:, None]
        star = directions(np.pi / 2 + np.arange(10) * np.pi / 5) * radius + (0, 0.3)
        return [Part(star, colour, outlined=False)]
    return []


def _arms(figure: FigureSpec, palette: _Palette, pose: Pose) -> list[Part]:
    parts = []
    for side in (-1, 1):
        hand_x, hand_y = _hand(side, _arm_angle(figure, pose, side))
        width = 0.15 if figure.kind == "bird" else 0.1
        colour = palette.shade if figure.kind in ("bird", "robot") else palette.body
        parts.append(Part(capsule(side * 0.19, _SHOULDER_Y, hand_x, hand_y, width), colour))
        parts.append(Part(ellipse(hand_x, hand_y, 0.07, 0.07), palette.body))
    return parts


def _arm_angle(figure: FigureSpec, pose: Pose, side: int) -> float:
    if figure.prop is not None and side == figure.prop_side:
        return pose.prop_arm
    # Without a prop both arms follow the action, except that one alone waves.
    waves_alone = pose.free_arm > 1.9 and pose.prop_arm == Pose().prop_arm
    return Pose().free_arm if waves_alone and side == figure.prop_side else pose.free_arm


def _hand(side: int, angle: float) -> tuple[float, float]:
    length = 0.24 + 0.1 * math.sin(angle / 2) ** 2  # a raised arm must show beside the head
    return side * (0.19 + length * math.sin(angle)), _SHOULDER_Y - length * math.cos(angle)


def _head(kind: str, palette: _Palette, pose: Pose) -> list[Part]:
    # Ghosts and birds have no separate head.
    parts = _HEADS[kind](palette) if kind in _HEADS else []
    if pose.turn <= 0:
        return parts
    return [*parts, *_face(kind, palette, 0.05 * pose.facing, pose)]


def _skull(palette: _Palette) -> Part:
    return Part(ellipse(0, _HEAD_Y, 0.29, 0.26), palette.body)


def _bear_head(palette: _Palette) -> list[Part]:
    ears = [Part(ellipse(side * 0.22, 0.85, 0.11, 0.11), palette.shade) for side in (-1, 1)]
    return [*ears, _skull(palette)]


def _rabbit_head(palette: _Palette) -> list[Part]:
    ears = [Part(ellipse(side * 0.17, 1.02, 0.085, 0.24), palette.body) for side in (-1, 1)]
    inner = [
        Part(ellipse(side * 0.17, 1.02, 0.04, 0.17), palette.light, outlined=False)
        for side in (-1, 1)
    ]
    return [*ears, *inner, _skull(palette)]


def _robot_head(palette: _Palette) -> list[Part]:
    bolts = [Part(rectangle(s * 0.29, 0.58, s * 0.36, 0.7), palette.shade) for s in (-1, 1)]
    antennas = [Part(capsule(s * 0.2, 0.84, s * 0.3, 1.04, 0.04), palette.shade) for s in (-1, 1)]
    balls = [Part(ellipse(s * 0.3, 1.05, 0.055, 0.055), palette.body) for s in (-1, 1)]
    return [*bolts, *antennas, *balls, Part(rectangle(-0.3, 0.45, 0.3, 0.87), palette.body)]


def _cat_head(palette: _Palette) -> list[Part]:
    ears = [np.array([[s * 0.29, 0.68], [s * 0.3, 1.02], [s * 0.08, 0.86]]) for s in (-1, 1)]
    inner = [np.array([[s * 0.255, 0.8], [s * 0.265, 0.94], [s * 0.15, 0.86]]) for s in (-1, 1)]
    return [
        *(Part(ear, palette.body) for ear in ears),
        *(Part(ear, palette.light, outlined=False) for ear in inner),
        _skull(palette),
    ]


_HEADS = {"bear": _bear_head, "rabbit": _rabbit_head, "robot": _robot_head, "cat": _cat_head}


def _face(kind: str, palette: _Palette, look: float, pose: Pose) -> list[Part]:
    parts: list[Part] = []
    if kind == "robot":
        visor = rectangle(-0.23 + look / 2, 0.57, 0.23 + look / 2, 0.78)
        parts.append(Part(visor, _INK, outlined=False))
    if kind in ("bear", "cat", "rabbit"):
        parts.append(Part(ellipse(look, 0.55, 0.13, 0.095), palette.light, outlined=False))
        parts.append(Part(ellipse(look, 0.59, 0.045, 0.035), _INK, outlined=False))
    parts += _eyes(kind, palette, look, pose)
    if kind == "bird":
        beak = np.array([[look - 0.11, 0.6], [look + 0.11, 0.6], [2.6 * look, 0.47]])
        parts.append(Part(beak, _BEAK))
    if kind == "cat":
        for side in (-1, 1):
            for slant in (-0.02, 0.03):
                line = capsule(look + side * 0.12, 0.55, look + side * 0.27, 0.55 + slant, 0.016)
                parts.append(Part(line, _INK, outlined=False))
    if kind == "ghost":
        parts.append(Part(ellipse(look, 0.55, 0.05, 0.06), _INK, outlined=False))
    return parts


def _eyes(kind: str, palette: _Palette, look: float, pose: Pose) -> list[Part]:
    parts = []
    for side in (-1, 1):
        x = look + side * 0.12
        if kind == "robot":
            size = 0.012 if pose.blinking else 0.05
            parts.append(Part(ellipse(x, 0.675, 0.05, size), palette.light, outlined=False))
        elif pose.blinking:
            parts.append(Part(capsule(x - 0.05, 0.7, x + 0.05, 0.7, 0.025), _INK, outlined=False))
        else:
            parts.append(Part(ellipse(x, 0.7, 0.075, 0.085), _WHITE, outlined=False))
            parts.append(Part(ellipse(x + look / 2.5, 0.7, 0.045, 0.058), _INK, outlined=False))
    return parts


def _hat(figure: FigureSpec, palette: _Palette, pose: Pose) -> list[Part]:
    base = 0.86
    half = 0.13 if figure.kind in ("rabbit", "cat") else 0.17
    way = pose.facing * (1 if pose.turn > 0 else -1)
    band = Part(rectangle(-half, base + 0.02, half, base + 0.06), palette.trim_light, "hat", False)
    if figure.hat == "top hat":
        brim = Part(capsule(-half - 0.07, base, half + 0.07, base, 0.06), palette.trim, "hat")
        return [Part(rectangle(-half, base, half, base + 0.25), palette.trim, "hat"), band, brim]
    if figure.hat == "cap":
        arc = directions(np.linspace(0, np.pi, 12))
        dome = arc * (half + 0.06, 0.17) + (0, base - 0.03)
        visor = capsule(0, base - 0.02, way * (half + 0.2), base - 0.02, 0.06)
        return [Part(dome, palette.trim, "hat"), Part(visor, palette.trim, "hat")]
    if figure.hat == "party hat":
        cone = np.array([[-half, base - 0.02], [half, base - 0.02], [0, base + 0.32]])
        pom = Part(ellipse(0, base + 0.32, 0.06, 0.06), palette.trim_light, "hat")
        return [Part(cone, palette.trim, "hat"), band, pom]
    xs = np.array([-1, -1.15, -0.5, 0, 0.5, 1.15, 1]) * half * 1.1
    ys = np.array([0, 0.22, 0.1, 0.24, 0.1, 0.22, 0]) + base - 0.01
    return [Part(np.stack([xs, ys], 1), palette.trim, "hat"), band]


def _prop(figure: FigureSpec, palette: _Palette, pose: Pose) -> list[Part]:
    if figure.prop is None:
        return []
    side = figure.prop_side
    x, y = _hand(side, pose.prop_arm)
    if figure.prop == "balloon":
        top = (x + side * 0.08, y + 0.55)
        shine = ellipse(top[0] - 0.06, top[1] + 0.06, 0.035, 0.05)
        return [
            Part(capsule(x, y, *top, 0.018), _INK, "prop", False),
            Part(ellipse(*top, 0.16, 0.19), palette.prop, "prop"),
            Part(shine, palette.prop_light, "prop", False),
        ]
    if figure.prop == "umbrella":
        centre_x, centre_y = x + side * 0.06, y + 0.42
        arc = directions(np.linspace(0, np.pi, 14))
        dome = arc * (0.29, 0.24) + (centre_x, centre_y)
        wedge = dome * (0.34, 1) + (centre_x * 0.66, 0)
        return [
            Part(capsule(x, y - 0.08, centre_x, centre_y + 0.2, 0.03), _INK, "prop", False),
            Part(dome, palette.prop, "prop"),
            Part(wedge, palette.prop_light, "prop", False),
        ]
    if figure.prop == "flower":
        bloom_x, bloom_y = x + side * 0.03, y + 0.3
        petals = [
            ellipse(bloom_x + 0.09 * math.cos(a), bloom_y + 0.09 * math.sin(a), 0.075, 0.075)
            for a in np.arange(5) * 2 * math.pi / 5 + math.pi / 2
        ]
        return [
            Part(capsule(x, y - 0.12, bloom_x, bloom_y, 0.035), (70, 150, 70), "prop", False),
            *(Part(petal, palette.prop, "prop") for petal in petals),
            Part(ellipse(bloom_x, bloom_y, 0.06, 0.06), (255, 214, 80), "prop", False),
        ]
    pole_top = y + 0.62
    cloth = np.array([[x, pole_top], [x + side * 0.36, pole_top - 0.13], [x, pole_top - 0.26]])
    return [
        Part(capsule(x, y - 0.15, x, pole_top, 0.035), _WOOD, "prop"),
        Part(cloth, palette.prop, "prop"),
    ]
