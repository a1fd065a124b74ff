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

from pipelines.curation.detectors.borders import MIN_COLUMNS, MIN_ROWS, Borders, picture

Floats = NDArray[np.float32]

HALF = 6  # frames on each side
ROWS, COLUMNS = 18, 32
LUMA_FLOOR, CHROMA_FLOOR = 3.0, 2.0  # levels that are noise, never contrast
VARIANCE_FLOOR = 2.0
LUMA_EDGES = np.linspace(-1.75, 1.75, 15, dtype=np.float32)  # of histograms, in contrasts
CHROMA_EDGES = np.linspace(-1.5, 1.5, 7, dtype=np.float32)
_BEFORE, _AFTER = HALF - 1, HALF  # the frames next to the cut
_NEXT = np.arange(2 * HALF - 1)
NUM_FEATURES = 114


def change(planes: NDArray[np.uint8], borders: Borders) -> Floats:
    """Return how much each frame of [B, 3, H, W] differs from the one before, in contrasts; 0 for
    the first. Cheap: it decides where a cut is possible at all.

    The square of a difference counts, so a few letters on black weigh as much as a picture.
    """
    levels = planes.astype(np.float32)
    steps = levels[1:] - levels[:-1]
    depths = np.minimum(borders.depths[1:], borders.depths[:-1])
    height, width = planes.shape[2:]
    rows = np.maximum(height - depths[:, 0] - depths[:, 1], MIN_ROWS)
    columns = np.maximum(width - depths[:, 2] - depths[:, 3], MIN_COLUMNS)
    power = np.einsum("bchw,bchw->bc", steps, steps) / (rows * columns)[:, None]
    variance = levels[:, 0].var((1, 2)) * (height * width)
    variance = np.maximum(variance[1:], variance[:-1]) / (rows * columns) + LUMA_FLOOR**2
    found = np.zeros(len(planes), np.float32)
    found[1:] = np.sqrt(power[:, 0] / variance) + np.sqrt(power[:, 1:].sum(1)) / 16.0
    return found


def cut_features(planes: NDArray[np.uint8], borders: Borders, *, fps: float) -> Floats:
    """Measure a possible cut in the middle of `planes` [2 * HALF, 3, H, W]: one row [F]."""
    border = borders.shared()
    frames = picture(planes, border, rows=ROWS, columns=COLUMNS)  # [M, 3, ROWS, COLUMNS]
    luma = frames[:, 0].reshape(len(frames), -1)
    chroma = frames[:, 1:].reshape(len(frames), 2, -1)
    structure, deviation = _structure(luma)
    luma_contrast = float(deviation.max()) + LUMA_FLOOR
    mean_chroma = chroma.mean((0, 2), keepdims=True)
    chroma_contrast = float(np.sqrt(np.square(chroma - mean_chroma).mean())) + CHROMA_FLOOR
    coarse = chroma.reshape(len(frames), 2, ROWS // 2, 2, COLUMNS // 2, 2).mean((3, 5))
    matrices = (
        structure,
        _distances(luma) / luma_contrast,
        _distances(coarse.reshape(len(frames), -1)) / chroma_contrast,
        _histogram_distances(
            (luma - luma.mean()) / luma_contrast, (chroma - mean_chroma) / chroma_contrast
        ),
    )
    numbers = [number for matrix in matrices for number in _summary(matrix)]
    for pair in ((_BEFORE, _AFTER), (_BEFORE - 1, _BEFORE), (_AFTER, _AFTER + 1)):
        numbers += _shifted_correlation(frames[pair[0], 0], frames[pair[1], 0])
    numbers += _block_changes(frames, luma_contrast, chroma_contrast)
    numbers += _detail(planes[[_BEFORE, _AFTER], 0], border)
    step = np.abs(frames[_AFTER] - frames[_BEFORE]).mean((1, 2))
    top, bottom, left, right = border
    height, width = planes.shape[2:]
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


def _structure(luma: Floats) -> tuple[Floats, Floats]:
    """Return 1 - correlation of each pair of luma [M, N], [M, M], and their deviations [M]."""
    centred = luma - luma.mean(1, keepdims=True)
    variance = np.square(centred).mean(1)
    products = centred @ centred.T / luma.shape[1] + VARIANCE_FLOOR
    scale = np.sqrt(variance + VARIANCE_FLOOR)
    return 1.0 - products / (scale[:, None] * scale), np.sqrt(variance)


def _distances(values: Floats) -> Floats:
    """Return the mean absolute difference of each pair of rows [M, N]: [M, M]."""
    return np.asarray(np.abs(values[:, None] - values[None]).mean(2), np.float32)


def _histogram_distances(luma: Floats, chroma: Floats) -> Floats:
    """Return how far the histograms of luma [M, N] and chroma [M, 2, N] are apart: [M, M]."""
    parts = [
        _histograms(luma, LUMA_EDGES),
        0.5 * _histograms(chroma[:, 0], CHROMA_EDGES),
        0.5 * _histograms(chroma[:, 1], CHROMA_EDGES),
    ]
    shares = np.concatenate(parts, axis=1)
    return 0.5 * np.abs(shares[:, None] - shares[None]).sum(2)


def _histograms(values: Floats, edges: Floats) -> Floats:
    """Return the shares of each row [M, N] between the edges: [M, len(edges) + 1]."""
    num_rows, num_bins = len(values), len(edges) + 1
    bins = np.searchsorted(edges, values) + num_bins * np.arange(num_rows)[:, None]
    counts = np.bincount(bins.ravel(), minlength=num_rows * num_bins)
    return (counts / values.shape[1]).reshape(num_rows, num_bins).astype(np.float32)


def _summary(matrix: Floats) -> list[float]:
    """Reduce the distances of all pairs of frames [M, M] to what tells a cut from its like."""
    a, b = _BEFORE, _AFTER
    steps = matrix[_NEXT, _NEXT + 1]
    before, after = np.sort(steps[: HALF - 1]), np.sort(steps[HALF:])
    near, far = matrix[a - 2 : b, b : b + 3], matrix[:HALF, HALF:]
    numbers = [
        # Across the cut: the smallest distance is small for a flash, which returns to what was.
        matrix[a, b], near.min(), near.mean(), far.min(), matrix[:a, b + 2 :].min(),
        matrix[a - 1 : b, b + 1 :].min(), matrix[a - 1, b], matrix[a, b + 1],
        matrix[a - 1, b + 1], matrix[a - 2, b + 2], matrix[0, -1],
        # Inside each side: how much the picture moves without a cut.
        before[HALF // 2 - 1], before[-1], after[HALF // 2 - 1], after[-1],
        matrix[a - 1, a], matrix[b, b + 1], matrix[a - 2, a], matrix[b, b + 2],
        matrix[0, a], matrix[b, -1],
    ]  # fmt: skip
    return [float(number) for number in numbers]


def _shifted_correlation(first: Floats, second: Floats) -> list[float]:
    """Return how well four parts of one luma [ROWS, COLUMNS] are found near their place in another:
    worst, middle, best. A moving camera shifts a picture; a cut replaces it."""
    found = []
    for part, near in _PARTS:
        pattern = np.ascontiguousarray(first[part])
        match = cv2.matchTemplate(np.ascontiguousarray(second[near]), pattern, cv2.TM_CCOEFF_NORMED)
        best = float(match.max())
        if not math.isfinite(best) or np.ptp(pattern) < 3.0:  # nothing to find
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


def _detail(pair: NDArray[np.uint8], border: tuple[int, int, int, int]) -> list[float]:
    """Return the fine structure on both sides of the cut and how far it differs: text on a plain
    background is finer than the areas that everything else is measured on."""
    top, bottom, left, right = border
    height, width = pair.shape[1:]
    fine = pair[:, top : height - bottom, left : width - right].astype(np.float32)
    edges = np.abs(np.diff(fine, axis=2)).mean((1, 2))
    rows = fine.reshape(2, -1)
    rows = rows - rows.mean(1, keepdims=True)
    power = np.square(rows).mean(1) + VARIANCE_FLOOR
    correlation = float((rows[0] * rows[1]).mean() + VARIANCE_FLOOR) / math.sqrt(
        power[0] * power[1]
    )
    return [math.log(edges[0] + 0.5), math.log(edges[1] + 0.5), 1.0 - correlation]
