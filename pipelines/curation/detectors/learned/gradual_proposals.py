"""Which frames might be a dissolve, a fade or a wipe: fits of blends to windows of frames.

Proposes more than is true; `gradual_features.py` and a network decide. A fade through black (or
white) is proposed as two halves that meet in a flat frame.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.base import Transition
from pipelines.curation.detectors.learned.blends import Blend, fit_dissolve, fit_wipe, median_block
from pipelines.curation.detectors.learned.thumbnails import Window

Floats = NDArray[np.float32]

USUAL_CONTRAST = 40.0  # standard deviation of luma; the limits below in levels scale with it
MIN_SCALE = 0.15


@dataclass(frozen=True)
class Limits:
    """What a proposal must have. Wide: a proposal that is missing here is lost, a wrong one is only
    judged once more."""

    structure: float = 0.25
    """Smallest 1 - correlation of the first frame and the last."""
    same_luma: float = 7.0
    """Levels that the same pixel may differ by."""
    area: float = 0.4
    """Smallest share of pixels that differ: a transition changes the picture, not a part of it."""
    block_change: float = 12.0
    """Smallest root mean square difference of the median of 3 x 4 blocks, in levels."""
    dissolve_residual: float = 0.08
    """Largest share of the change that a dissolve leaves unexplained."""
    dip_residual: float = 0.16
    """The same where contrast dips half-way: two pictures over each other have less than either."""
    dip: float = 0.3
    """Share of the contrast's power that is missing in a dip."""
    rough_residual: float = 0.25
    """Largest residual of a window that may hold a transition and more."""
    wipe_residual: float = 0.1
    wipe_structure: float = 0.45
    wipe_area: float = 0.55
    max_step: float = 0.25
    """Largest weight that may change between two frames: more is a cut or a flash."""
    max_fade_step: float = 0.4
    """The same next to a flat frame."""
    max_haste: float = 3.2
    """Fastest step, as a multiple of the mean step."""
    max_return: float = 0.12
    """Largest weight that may go back between two frames."""


LIMITS = Limits()


def propose(window: Window, *, max_step: float = LIMITS.max_step) -> Transition | None:
    """Return the gradual transition that the frames of `window` may hold, None if they cannot.

    `max_step` is the largest weight that may change from one frame to the next.
    """
    window = window.cropped()
    last = len(window) - 1
    difference = window.structure(0, last)
    # A picture that has all but faded is still like the one it was.
    if difference < LIMITS.structure and window.is_flat[0] == window.is_flat[last]:
        return None
    step = window.luma[last] - window.luma[0]
    scale = contrast_scale(window, 0, last)
    area = float(np.count_nonzero(np.abs(step) > LIMITS.same_luma * scale)) / step.size
    change = median_block(step) / scale
    if area < LIMITS.area or change < LIMITS.block_change:
        return None
    blend = fit_dissolve(window.luma[0], window.luma[last], window.luma)
    limit = LIMITS.dip_residual if _dips(window, blend) else LIMITS.dissolve_residual
    if blend.residual > limit:
        core = _core(window, blend)
        found = None if core is None else propose(core, max_step=max_step)
        if found is not None:
            return found
        wipe = _wipe(window, difference, area)
        if wipe is None:
            return None
        blend = wipe
    inside = np.flatnonzero((blend.weights > 0.04) & (blend.weights < 0.96))
    if len(inside) < 3 or not _rises(blend.weights, len(inside), max_step):
        return None
    # A part of a dissolve is a dissolve too: the larger change is the whole.
    score = (1.0 - blend.residual) * change / (change + 20.0)
    first, stop = int(inside[0]), int(inside[-1]) + 1
    return Transition("gradual", window.first + first, window.first + stop, score)


def contrast_scale(window: Window, first: int, last: int) -> float:
    """Return the contrast of two of the frames as a share of the usual one, at most 1."""
    power = max(float(window.power[first]), float(window.power[last]))
    contrast = math.sqrt(power / window.luma.shape[1])
    return min(1.0, max(MIN_SCALE, contrast / USUAL_CONTRAST))


def _wipe(window: Window, difference: float, area: float) -> Blend | None:
    """Return how the frames are a wipe between the first and the last, None if they are not."""
    if area < LIMITS.wipe_area or difference < LIMITS.wipe_structure:
        return None
    first, last = window.luma[0], window.luma[-1]
    some = window.luma[1::3]  # their residual is a part of the whole
    if fit_wipe(first, last, some).residual * len(some) > LIMITS.wipe_residual * len(window.luma):
        return None
    blend = fit_wipe(first, last, window.luma)
    return blend if blend.residual <= LIMITS.wipe_residual else None


def _dips(window: Window, blend: Blend) -> bool:
    """Ask whether contrast sinks half-way, as it does where two pictures lie over each other."""
    middle = float(window.power[int(np.abs(blend.weights - 0.5).argmin())])
    both = float(window.power[0]) + float(window.power[-1])
    return 2.0 * middle < (1.0 - LIMITS.dip) * both


def _core(window: Window, blend: Blend) -> Window | None:
    """Return the frames in which a roughly fitted dissolve goes from 0 to 1, if they are fewer.

    What moves before and after a dissolve is no part of it.
    """
    if blend.residual > LIMITS.rough_residual:
        return None
    inside = np.flatnonzero((blend.weights > 0.08) & (blend.weights < 0.92))
    if len(inside) < 3:
        return None
    core = window.part(max(0, int(inside[0]) - 1), int(inside[-1]) + 2)
    return core if len(core) < len(window) and _dips(window, blend) else None


def _rises(weights: Floats, num_inside: int, max_step: float) -> bool:
    """Ask whether weights go from 0 to 1 steadily: no way back, no jump, no sudden haste."""
    steps = np.diff(weights)
    fastest = min(max_step, LIMITS.max_haste / num_inside)
    return bool(steps.min() > -LIMITS.max_return and steps.max() < fastest)
