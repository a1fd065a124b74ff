"""Perceivers without weights: what they find is in the pixels."""

import numpy as np


class Faces:
    """As many faces as the picture's mean brightness, in steps of 64."""

    version = "fake-faces"

    def find(self, picture):
        count = int(picture.mean()) // 64
        return [{"x": i, "y": 0, "width": 4, "height": 4, "score": 0.9} for i in range(count)]


class Text:
    """One line over the lower half of every picture."""

    version = "fake-text"

    def read(self, picture):
        height, width = picture.shape[:2]
        half = height / 2
        place = {"x": 0.0, "y": half, "width": float(width), "height": half}
        return [{"text": "FIN", **place, "area_px": width * half, "score": 1.0}]


class Broken:
    """Fails on everything but the grey picture of the first check."""

    version = "broken"

    def score(self, picture):
        if np.ptp(picture) > 0:
            raise RuntimeError("poisoned")
        return 0.0


class Unusable:
    """Has nothing to call."""

    version = "unusable"
