"""What the learned detector measures of a possible cut: numbers that hold for any footage.

The frames around it are compared in pairs, without their borders and relative to their contrast:
never a picture itself, only how far pictures are from each other. Dark, flat and cropped videos
therefore look like any other. M: the frames of a window, half of them before the cut.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.curation.detectors.borders import MIN_COLUMNS, MIN_ROWS, Border, picture
from pipelines.curation.detectors.learned.views import COLUMNS, ROWS, View

Floats = NDArray[np.float32]

HALF = 6  # frames on each side
LUMA_FLOOR, CHROMA_FLOOR = 3.0, 2.0  # levels that are noise, never contrast
VARIANCE_FLOOR = 2.0
LUMA_RANGE, LUMA_BINS = 1.75, 16  # of histograms, in contrasts
CHROMA_RANGE, CHROMA_BINS = 1.5, 8
_BEFORE, _AFTER = HALF - 1, HALF  # the frames next to the cut
NUM_FEATURES = 114


def change(view: View) -> Floats:
    """Return how much each frame differs from the one before, in contrasts, [M]; 0 for the first.
    Cheap: it decides where a cut is possible at all.

    The square of a difference counts, so a few letters on black weigh as much as a picture.
    """
    count, _, height, width = view.levels.shape
    levels = view.levels.reshape(count, 3, height * width)
    steps = (levels[1:] - levels[:-1]).reshape(-1, height * width)
    power = np.einsum("sn,sn->s", steps, steps).reshape(-1, 3)
    depths = np.minimum(view.borders.depths[1:], view.borders.depths[:-1])
    rows = np.maximum(height - depths[:, 0] - depths[:, 1], MIN_ROWS)
    columns = np.maximum(width - depths[:, 2] - depths[:, 3], MIN_COLUMNS)
    variance = _variance(levels[:, 0]) * (height * width)
    variance = np.maximum(variance[1:], variance[:-1]) / (rows * columns) + LUMA_FLOOR**2
    power /= (rows * columns)[:, None]
    found = np.zeros(count, np.float32)
    found[1:] = np.sqrt(power[:, 0] / variance) + np.sqrt(power[:, 1:].sum(1)) / 16.0
    return found


def _variance(luma: Floats) -> Floats:
    """Return the variance of each row [M, N]."""
    centred = luma - 128.0  # squares of smaller numbers lose fewer digits
    mean = centred.mean(1)
    power = np.einsum("mn,mn->m", centred, centred) / luma.shape[1]
    return np.asarray(np.maximum(power - mean * mean, 0.0), np.float32)


def difference(view: View) -> tuple[float, float]:
    """Return how far the two frames in the middle of a window are apart: the mean change of luma,
    in their contrast, and 1 - correlation. Cheaper than `cut_features`."""
    pair = _pictures(view, slice(_BEFORE, _AFTER + 1))[:, 0].reshape(2, -1)
    structure, deviation = _structure(pair)
    step = float(cv2.norm(pair[0], pair[1], cv2.NORM_L1)) / pair.shape[1]
    return step / (float(deviation.max()) + LUMA_FLOOR), float(structure[0, 1])


def _pictures(view: View, frames: slice) -> Floats:
    """Return frames of a window [M, 3, ROWS, COLUMNS] without the border that all of it shares."""
    border = view.borders.shared()
    if not any(border):
        return view.halved[frames]
    return picture(view.levels[frames], border, rows=ROWS, columns=COLUMNS)


def cut_features(view: View, *, fps: float) -> Floats:
    """Measure a possible cut in the middle of the 2 * HALF frames of `view`: one row [F]."""
    border = view.borders.shared()
    frames = _pictures(view, slice(None))
    luma = frames[:, 0].reshape(len(frames), -1)
    chroma = frames[:, 1:].reshape(len(frames), 2, -1)
    structure, deviation = _structure(luma)
    luma_contrast = float(deviation.max()) + LUMA_FLOOR
    mean_chroma = chroma.mean((0, 2), keepdims=True)
    centred_chroma = chroma - mean_chroma
    chroma_power = np.vdot(centred_chroma, centred_chroma) / chroma.size
    chroma_contrast = math.sqrt(float(chroma_power)) + CHROMA_FLOOR
    matrices = np.stack(
        [
            structure,
            _distances(luma) / luma_contrast,
            _distances(_halved(frames[:, 1:])) / chroma_contrast,
            _histogram_distances(
                (luma - luma.mean()) / luma_contrast, centred_chroma / chroma_contrast
            ),
        ]
    )
    numbers: list[float] = _summaries(matrices).ravel().tolist()
    for pair in ((_BEFORE, _AFTER), (_BEFORE - 1, _BEFORE), (_AFTER, _AFTER + 1)):
        numbers += _shifted_correlation(frames[pair[0], 0], frames[pair[1], 0])
    numbers += _block_changes(frames, luma_contrast, chroma_contrast)
    numbers += _detail(view.levels[[_BEFORE, _AFTER], 0], border)
    step = np.abs(frames[_AFTER] - frames[_BEFORE]).mean((1, 2))
    top, bottom, left, right = border
    height, width = view.levels.shape[2:]
    numbers += [
        math.log(deviation[_BEFORE] + 1.0),
        math.log(deviation[_AFTER] + 1.0),
        math.log(luma_contrast),
        math.log(chroma_contrast),
        math.log(step[0] + 0.5),
        math.log(step[1] + step[2] + 0.5),
        float(luma[_BEFORE].mean()) / 255.0,
        float(luma[_AFTER].mean()) / 255.0,
        (height - top - bottom) * (width - left - right) / (height * width),
        math.log2(fps / 25.0),
    ]
    return np.asarray(numbers, np.float32)


def _halved(chroma: Floats) -> Floats:
    """Return the means of the 2 x 2 cells of chroma [M, 2, ROWS, COLUMNS], [M, a row each]."""
    rows = chroma[:, :, ::2] + chroma[:, :, 1::2]
    return ((rows[..., ::2] + rows[..., 1::2]) / 4.0).reshape(len(chroma), -1)


def _structure(luma: Floats) -> tuple[Floats, Floats]:
    """Return 1 - correlation of each pair of luma [M, N], [M, M], and their deviations [M]."""
    centred = luma - luma.mean(1, keepdims=True)
    variance = np.square(centred).mean(1)
    products = centred @ centred.T / luma.shape[1] + VARIANCE_FLOOR
    scale = np.sqrt(variance + VARIANCE_FLOOR)
    return 1.0 - products / (scale[:, None] * scale), np.sqrt(variance)


def _distances(values: Floats) -> Floats:
    """Return the mean absolute difference of each pair of rows [M, N]: [M, M]."""
    # OpenCV returns them sorted, with the number of the row that each belongs to.
    count = len(values)
    nearest, rows = cv2.batchDistance(values, values, cv2.CV_32F, normType=cv2.NORM_L1, K=count)
    sums = np.empty((count, count), np.float32)
    np.put_along_axis(sums, rows, nearest, axis=1)
    return sums / values.shape[1]


def _histogram_distances(luma: Floats, chroma: Floats) -> Floats:
    """Return how far the histograms of luma [M, N] and chroma [M, 2, N] are apart: [M, M].

    Values are in contrasts. Both kinds of chroma together weigh as much as luma.
    """
    count, size = luma.shape
    first_bins = np.array([0, LUMA_BINS, LUMA_BINS + CHROMA_BINS])
    num_bins = LUMA_BINS + 2 * CHROMA_BINS
    places = np.empty((count, 3, size), np.float32)
    places[:, 0] = _bins(luma, LUMA_RANGE, LUMA_BINS)
    places[:, 1:] = _bins(chroma, CHROMA_RANGE, CHROMA_BINS)
    bins = places.astype(np.intp)
    bins += first_bins[:, None] + num_bins * np.arange(count)[:, None, None]
    counts = np.bincount(bins.ravel(), minlength=count * num_bins).reshape(count, num_bins)
    shares = (counts / size).astype(np.float32)
    shares[:, LUMA_BINS:] *= 0.5
    return 0.5 * np.abs(shares[:, None] - shares[None]).sum(2)


def _bins(values: Floats, reach: float, count: int) -> Floats:
    """Return the bin of each value: the outer ones are open, the others divide -reach to reach."""
    places = np.ceil((values + reach) * np.float32((count - 2) / (2.0 * reach)))
    np.maximum(places, 0.0, out=places)
    return np.minimum(places, count - 1.0, out=places)


def _summaries(matrices: Floats) -> Floats:
    """Reduce distances of all pairs of frames [K, M, M] to numbers that set cuts apart: [K, 21]."""
    distances = matrices.reshape(len(matrices), -1)
    across, late, skipping, near, pairs, before, after = (
        distances.take(places, axis=1) for places in _PLACES
    )
    before.sort(axis=1)
    after.sort(axis=1)
    columns = [
        # Across the cut: the smallest distance is small for a flash, which returns to what was.
        pairs[:, 0], near.min(1), near.mean(1), across.min(1), late.min(1), skipping.min(1),
        *pairs[:, 1:6].T,
        # Inside each side: how much the picture moves without a cut.
        before[:, HALF // 2 - 1], before[:, -1], after[:, HALF // 2 - 1], after[:, -1],
        *pairs[:, 6:].T,
    ]  # fmt: skip
    return np.stack(columns, axis=1)


def _places() -> list[NDArray[np.intp]]:
    """Return where in a matrix [M, M] the distances of groups of pairs are, as `_summaries` names
    them."""
    a, b, number = _BEFORE, _AFTER, np.arange(4 * HALF * HALF).reshape(2 * HALF, -1)
    steps = np.diagonal(number, 1)
    pairs = [
        (a, b), (a - 1, b), (a, b + 1), (a - 1, b + 1), (a - 2, b + 2), (0, -1),
        (a - 1, a), (b, b + 1), (a - 2, a), (b, b + 2), (0, a), (b, -1),
    ]  # fmt: skip
    groups = (
        number[:HALF, HALF:], number[:a, b + 2 :], number[a - 1 : b, b + 1 :],
        number[a - 2 : b, b : b + 3],
        np.array([number[pair] for pair in pairs]), steps[: HALF - 1], steps[HALF:],
    )  # fmt: skip
    return [group.ravel() for group in groups]


_PLACES = _places()


def _shifted_correlation(first: Floats, second: Floats) -> list[float]:
    """Return how well four parts of one luma [ROWS, COLUMNS] are found near their place in another:
    worst, middle, best. A moving camera shifts a picture; a cut replaces it."""
    found = []
    for part, near in _PARTS:
        pattern = np.ascontiguousarray(first[part])
        match = cv2.matchTemplate(np.ascontiguousarray(second[near]), pattern, cv2.TM_CCOEFF_NORMED)
        _, best, *_ = cv2.minMaxLoc(match)
        darkest, brightest, *_ = cv2.minMaxLoc(pattern)
        if not math.isfinite(best) or brightest - darkest < 3.0:  # nothing to find
            same = second[part]
            is_same = abs(float(pattern.mean() - same.mean())) < 6.0 and np.ptp(same) < 6.0
            best = float(is_same)
        found.append(min(1.0, best))
    found.sort()
    return [found[0], (found[1] + found[2]) / 2.0, found[3]]


_PARTS = tuple(
    (
        (slice(top, top + 8), slice(left, left + 13)),
        (slice(max(0, top - 4), top + 12), slice(max(0, left - 7), left + 20)),
    )
    for top in (2, 8)
    for left in (3, 16)
)


def _block_changes(frames: Floats, luma_contrast: float, chroma_contrast: float) -> list[float]:
    """Return order statistics of the change of 3 x 4 blocks. A cut changes all of them; a picture
    in the picture, a caption or a passing object some."""

    def blocks(first: int, second: int) -> Floats:
        step = np.abs(frames[first] - frames[second])
        both = step[0] / luma_contrast + 0.5 * (step[1] + step[2]) / chroma_contrast
        return np.sort(both.reshape(3, ROWS // 3, 4, COLUMNS // 4).mean((1, 3)).ravel())

    across = blocks(_BEFORE, _AFTER)
    inside = np.maximum(blocks(_BEFORE - 1, _BEFORE), blocks(_AFTER, _AFTER + 1))
    return [float(x) for x in (*across[[0, 2, 5, 8, 11]], *inside[[0, 5, 11]])]


def _detail(pair: Floats, border: Border) -> list[float]:
    """Return the fine structure on both sides of the cut and how far it differs: text on a plain
    background is finer than the areas that everything else is measured on."""
    top, bottom, left, right = border
    height, width = pair.shape[1:]
    fine = pair[:, top : height - bottom, left : width - right]
    edges = np.abs(np.diff(fine, axis=2)).mean((1, 2))
    rows = fine.reshape(2, -1)
    rows = rows - rows.mean(1, keepdims=True)
    power = np.square(rows).mean(1) + VARIANCE_FLOOR
    correlation = float((rows[0] * rows[1]).mean() + VARIANCE_FLOOR) / math.sqrt(
        power[0] * power[1]
    )
    return [math.log(edges[0] + 0.5), math.log(edges[1] + 0.5), 1.0 - correlation]
