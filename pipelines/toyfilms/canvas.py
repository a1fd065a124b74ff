"""A canvas with anti-aliasing by supersampling, and the shapes that are painted on it.

A shape is a polygon of P points, [P, 2]. Knows nothing about films.
"""

from __future__ import annotations

import colorsys
import math

import cv2
import numpy as np

Colour = tuple[int, int, int]

_SUBPIXEL_BITS = 4


def hsv(hue_deg: float, saturation: float, value: float) -> Colour:
    """Return RGB in 0..255."""
    red, green, blue = colorsys.hsv_to_rgb((hue_deg % 360) / 360, saturation, min(1.0, value))
    return round(red * 255), round(green * 255), round(blue * 255)


def scaled(colour: Colour, factors: tuple[float, float, float]) -> Colour:
    """Multiply a colour channel by channel, as coloured light does; factors are at most 1."""
    (red, green, blue), (r, g, b) = colour, factors
    return round(red * r), round(green * g), round(blue * b)


class Canvas:
    """RGB pixels at `supersampling` times the final size; coordinates are 0..1, y downwards."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.supersampling = 4 if max(width, height) <= 128 else 2
        self.scale_x = float(width * self.supersampling)
        self.scale_y = float(height * self.supersampling)
        self.aspect = width / height
        self.pixels = np.zeros((int(self.scale_y), int(self.scale_x), 3), np.uint8)

    def polygon(self, points: np.ndarray, colour: Colour) -> None:
        """Fill a polygon of [P, 2] points, x in frame widths and y in frame heights."""
        self.fill_fixed(self.fixed(points), colour)

    def fixed(self, points: np.ndarray) -> np.ndarray:
        """Turn points into the fixed-point pixels that `fill_fixed` and `stroke_fixed` take."""
        scale = (self.scale_x * (1 << _SUBPIXEL_BITS), self.scale_y * (1 << _SUBPIXEL_BITS))
        return np.rint(points * scale).astype(np.int32)

    def fill_fixed(self, points: np.ndarray, colour: Colour) -> None:
        """Fill a polygon of [P, 2] fixed-point pixels."""
        cv2.fillPoly(self.pixels, [points], colour, cv2.LINE_8, _SUBPIXEL_BITS)

    def stroke_fixed(self, points: np.ndarray, colour: Colour, thickness: float) -> None:
        """Stroke a closed polygon of fixed-point pixels; `thickness` is in frame heights."""
        pixels = max(1, round(thickness * self.scale_y))
        cv2.polylines(self.pixels, [points], True, colour, pixels, cv2.LINE_8, _SUBPIXEL_BITS)

    def shade(self, points: np.ndarray, factor: float) -> None:
        """Multiply the brightness inside a polygon, as a shadow does."""
        fixed = self.fixed(points)
        left, top = np.maximum(0, fixed.min(axis=0) >> _SUBPIXEL_BITS)
        right, bottom = (fixed.max(axis=0) >> _SUBPIXEL_BITS) + 1
        region = self.pixels[top:bottom, left:right]
        if region.size == 0:
            return
        mask = np.full(region.shape[:2], 255, np.uint8)
        corner = np.array([left, top]) << _SUBPIXEL_BITS
        cv2.fillPoly(mask, [fixed - corner], round(255 * factor), cv2.LINE_8, _SUBPIXEL_BITS)
        cv2.multiply(region, cv2.merge([mask] * 3), dst=region, scale=1 / 255)

    def gradient(self, top: float, bottom: float, first: Colour, last: Colour) -> None:
        """Fill the rows from `top` to `bottom` (frame heights) from one colour to another."""
        start, stop = (round(max(0.0, min(1.0, y)) * self.scale_y) for y in (top, bottom))
        if stop <= start:
            return
        rows = (np.arange(start, stop) / self.scale_y - top) / (bottom - top)
        colours = (1 - rows[:, None]) * np.array(first) + rows[:, None] * np.array(last)
        self.pixels[start:stop] = colours[:, None].astype(np.uint8)

    def frame(self) -> np.ndarray:
        """Return the picture at its final size, uint8 [H, W, 3]."""
        return cv2.resize(self.pixels, (self.width, self.height), interpolation=cv2.INTER_AREA)


def directions(angles: np.ndarray) -> np.ndarray:
    """Unit vectors [P, 2] at `angles` [P] in radians."""
    return np.stack([np.cos(angles), np.sin(angles)], 1)


_CIRCLE = directions(np.linspace(0, 2 * np.pi, 24, False))
_HALF_CIRCLE = directions(np.linspace(-np.pi / 2, np.pi / 2, 7))


def ellipse(x: float, y: float, radius_x: float, radius_y: float) -> np.ndarray:
    """Points [24, 2] of an upright ellipse."""
    return _CIRCLE * (radius_x, radius_y) + (x, y)


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Points [4, 2]."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def capsule(x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
    """Points [14, 2] of a thick line with round ends."""
    length = math.hypot(x1 - x0, y1 - y0)
    cos, sin = ((x1 - x0) / length, (y1 - y0) / length) if length else (1.0, 0.0)
    half = width / 2
    end = _HALF_CIRCLE @ np.array([[half * cos, half * sin], [-half * sin, half * cos]])
    return np.concatenate([end + (x1, y1), -end + (x0, y0)])
