"""Which windows cannot hold a gradual transition: the tests of `propose`, for many windows at once.

All that a fit needs to know is how frames multiply with the first and the last of a window. One
product of matrices therefore rules out most windows, before any of them is fitted. A window that is
not ruled out may still hold nothing. n: windows, each from a frame of `firsts` to one of `lasts`
[n]; M: frames of the longest; N: pixels of a thumbnail.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.learned.blends import median_blocks
from pipelines.curation.detectors.learned.gradual_proposals import (
    LIMITS,
    MIN_SCALE,
    USUAL_CONTRAST,
)
from pipelines.curation.detectors.learned.thumbnails import VARIANCE_FLOOR, Window

Floats = NDArray[np.float32]
Places = NDArray[np.intp]
Bools = NDArray[np.bool_]

SLACK = 0.005  # rounding differs between one window and many; this is several times more
MIDDLE_GREY = 128.0  # squares of smaller numbers lose fewer digits


def may_hold(recent: Window, firsts: Places, lasts: Places) -> Bools:
    """Return for each window of frames of `recent` whether it may hold a gradual transition. All
    frames are compared whole: give `recent` without its border."""
    difference = _differences(recent, firsts, lasts)
    turns = recent.is_flat[firsts] != recent.is_flat[lasts]
    found = turns | (difference >= LIMITS.structure - SLACK)
    kept = np.flatnonzero(found)
    if len(kept):
        area, is_wide = _areas(recent, firsts[kept], lasts[kept])
        found[kept[~is_wide]] = False
        kept, area = kept[is_wide], area[is_wide]
    if len(kept):
        may_wipe = (area >= LIMITS.wipe_area - SLACK) & (
            difference[kept] >= LIMITS.wipe_structure - SLACK
        )
        found[kept] = _are_blends(recent, firsts[kept], lasts[kept], may_wipe)
    return found


def _differences(recent: Window, firsts: Places, lasts: Places) -> Floats:
    """Return 1 - correlation of the first frame of each window and its last."""
    floor = VARIANCE_FLOOR * recent.luma.shape[1]
    low = int(firsts.min())
    centred = recent.luma[low:] - recent.mean[low:, None]
    products = np.einsum("in,in->i", centred[firsts - low], centred[lasts - low])
    scale = np.sqrt((recent.power[firsts] + floor) * (recent.power[lasts] + floor))
    return np.asarray(1.0 - (products + floor) / scale, np.float32)


def _areas(recent: Window, firsts: Places, lasts: Places) -> tuple[Floats, Bools]:
    """Return the share of each window's picture that changes, and whether it is more than a part
    of the picture."""
    steps = recent.luma[lasts] - recent.luma[firsts]  # [n, N]
    power = np.maximum(recent.power[firsts], recent.power[lasts])
    contrast = np.sqrt(power / steps.shape[1])
    scale = np.clip(contrast / USUAL_CONTRAST, MIN_SCALE, 1.0)
    has_changed = np.abs(steps) > (LIMITS.same_luma * scale)[:, None]
    area = np.count_nonzero(has_changed, axis=1) / steps.shape[1]
    is_wide = area >= LIMITS.area - SLACK
    is_wide &= median_blocks(steps) >= (LIMITS.block_change - SLACK) * scale
    return area, is_wide


def _are_blends(recent: Window, firsts: Places, lasts: Places, may_wipe: Bools) -> Bools:
    """Ask whether the frames lie between the first and the last, as those of a dissolve or a wipe
    do."""
    count = lasts - firsts + 1
    # Shorter windows end in more of their last frame, which fits any blend.
    inside = np.minimum(firsts[:, None] + np.arange(count.max()), lasts[:, None])  # [n, M]
    low = int(firsts.min())
    ends, place = np.unique(np.concatenate([firsts, lasts]), return_inverse=True)
    grey = recent.luma[low:] - MIDDLE_GREY
    products = grey @ grey[ends - low].T
    with_first = products[inside - low, place[: len(firsts), None]]
    with_last = products[inside - low, place[len(firsts) :, None]]
    both = with_first[:, -1:]
    squares = np.einsum("in,in->i", grey, grey)[inside - low]
    first, last = with_first[:, :1], with_last[:, -1:]
    energy = first + last - 2.0 * both  # of the whole change
    weights = (with_last - with_first - both + first) / energy
    from_first = (squares - 2.0 * with_first + first) / energy  # square distances
    residual = (from_first - weights * weights).sum(1) / count

    middle = firsts + np.abs(weights - 0.5).argmin(1)
    powers = recent.power[firsts] + recent.power[lasts]
    dips = 2.0 * recent.power[middle] < (1.0 - LIMITS.dip + SLACK) * powers
    limit = np.where(dips, LIMITS.rough_residual, LIMITS.dissolve_residual)

    # A frame of a wipe is the first here and the last there, so its differences from the two never
    # meet. Where they do, with the share q, the unexplained share is r: q <= r + sqrt(r).
    meeting = np.abs(squares - with_first - with_last + both) / energy
    rest = np.square((np.sqrt(1.0 + 4.0 * meeting) - 1.0) / 2.0).sum(1) / count
    is_wipe = may_wipe & (rest <= LIMITS.wipe_residual + SLACK)
    return np.asarray((residual <= limit + SLACK) | is_wipe)
