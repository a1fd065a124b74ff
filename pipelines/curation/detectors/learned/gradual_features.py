"""What is measured of a possible gradual transition and of the frames around it.

M: frames of the window; N: pixels of a thumbnail.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.learned.blends import (
    fit_dissolve,
    fit_wipe,
    median_block,
    switches,
)
from pipelines.curation.detectors.learned.gradual_proposals import contrast_scale
from pipelines.curation.detectors.learned.thumbnails import FLAT_STD, Window

Floats = NDArray[np.float32]

MARGIN = 8  # frames on either side that are looked at, where there are as many
NUM_GRADUAL_FEATURES = 44


def gradual_features(around: Window, start: int, end: int, *, fps: float) -> Floats:
    """Measure the frames `[start, end)`, counted from the first of `around`: one row [F].

    `around` holds at least one frame before and one after them.
    """
    view = around.cropped()
    first, middle, last = start - 1, (start + end) // 2, end
    window = view.luma[first : last + 1]  # [M, N]
    scale = contrast_scale(view, first, last)
    step = view.luma[last] - view.luma[first]
    dissolve = fit_dissolve(view.luma[first], view.luma[last], window)
    wipe = fit_wipe(view.luma[first], view.luma[last], window)
    deviations = [math.sqrt(float(view.power[f]) / step.size) for f in (first, middle, last)]
    single, edge = switches(window)
    before, after = view.part(0, start), view.part(end, None)
    outer = len(view) - 1
    numbers = [
        math.log(end - start),
        math.log((end - start) / fps),
        view.structure(first, last),
        view.structure(first, middle),
        view.structure(middle, last),
        view.structure(0, first),
        view.structure(last, outer),
        view.structure(0, outer),
        min(view.structure(a, b) for a in range(0, start, 3) for b in range(end, len(view), 3)),
        float((np.abs(step) > 8.0 * scale).mean()),
        median_block(step) / scale / 20.0,
        scale,
        *(math.log(d + 1.0) for d in deviations),
        (deviations[1] ** 2 + 1.0) / ((deviations[0] ** 2 + deviations[2] ** 2) / 2.0 + 1.0),
        float(min(deviations[0], deviations[2]) < FLAT_STD),
        min(deviations[0], deviations[2]) / (max(deviations[0], deviations[2]) + 1.0),
        abs(float(step.mean())) / 255.0,
        float(view.mean[first]) / 255.0,
        float(view.mean[last]) / 255.0,
        dissolve.residual,
        wipe.residual,
        *_course(dissolve.weights),
        *_course(wipe.weights),
        single,
        edge,
        *_motion(view.luma, start, end, scale),
        float(before.is_flat.mean()),
        float(after.is_flat.mean()),
        len(before) / (MARGIN + 1),
        len(after) / (MARGIN + 1),
    ]
    return np.asarray(numbers, np.float32)


def _course(weights: Floats) -> list[float]:
    """Return how the weights of a blend go from 0 to 1: steepest and lowest step, and how far they
    are from a straight line."""
    steps = np.diff(weights)
    line = np.linspace(weights[0], weights[-1], len(weights))
    return [
        float(steps.max()),
        float(steps.max()) * len(steps),
        float(steps.min()),
        float(np.sqrt(np.square(weights - line).mean())),
    ]


def _motion(luma: Floats, start: int, end: int, scale: float) -> list[float]:
    """Return the mean change between frames before, inside and after, the largest inside, and how
    the inner frames differ from their neighbours' mean (a steady blend hardly does)."""
    steps = np.abs(np.diff(luma, axis=0)).mean(1) / (10.0 * scale)
    parts = steps[: start - 1], steps[start - 1 : end], steps[end:]
    inner = luma[start - 1 : end + 1]
    bend = np.abs(inner[1:-1] - (inner[:-2] + inner[2:]) / 2.0).mean() / (10.0 * scale)
    return [
        float(parts[0].mean()) if len(parts[0]) else 0.0,
        float(parts[1].mean()),
        float(parts[2].mean()) if len(parts[2]) else 0.0,
        float(parts[1].max()),
        float(np.median(parts[1])),
        float(bend),
        float(bend) / (float(parts[1].mean()) + 0.01),
    ]
