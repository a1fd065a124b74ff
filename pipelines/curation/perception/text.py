"""Lines of text with RapidOCR (PP-OCR), from the weights inside the package rapidocr.

Reads Latin letters, Chinese and Japanese.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fw_model.schemas.curated_rows import TextLineRow
from pipelines.curation.perception.packages import (
    optional_module,
    package_folder,
    weights_digest,
)

EXTRA = "text"
MAX_SIDE_PX = 960
MIN_SCORE = 0.6
MIN_LETTERS = 2  # a lone letter is mostly a shape: a planet is read as O, a horizon as a dash
# The detector's boxes are wider than the letters by this share of the line's height on each side:
# with it, the area is right to 0.004 of the picture (rendered lines on frames of films).
MARGIN = 0.12
_PARAMETERS = {
    "Global.log_level": "error",
    "Global.use_cls": False,  # upside down lines are not worth a third network
    "Global.text_score": MIN_SCORE,
    # By default, pictures are enlarged to 736 pixels: four times the cost, and no better.
    "Det.limit_type": "max",
    "Det.limit_side_len": MAX_SIDE_PX,
    # One thread: the actors that run it are spread over the cores.
    "EngineConfig.onnxruntime.intra_op_num_threads": 1,
    "EngineConfig.onnxruntime.inter_op_num_threads": 1,
}


class RapidOcr:
    """Finds and reads lines of text."""

    def __init__(self) -> None:
        optional_module("onnxruntime", EXTRA)
        weights = sorted((package_folder("rapidocr", EXTRA) / "models").glob("*.onnx"))
        self._engine = optional_module("rapidocr", EXTRA).RapidOCR(params=_PARAMETERS)
        limits = f"{MAX_SIDE_PX}-{MIN_SCORE}-{MIN_LETTERS}-{MARGIN}"
        self.version = f"rapidocr-{weights_digest(*weights)}-{limits}"

    def read(self, picture: NDArray[np.uint8]) -> list[TextLineRow]:
        """Return the lines of text in a picture [H, W, 3], from top to bottom."""
        found = self._engine(np.ascontiguousarray(picture[..., ::-1]))  # it reads BGR
        if found.boxes is None or found.txts is None:
            return []
        lines = zip(found.boxes, found.txts, found.scores, strict=True)
        return [
            _row(corners, text, score)
            for corners, text, score in lines
            if sum(map(str.isalnum, text)) >= MIN_LETTERS
        ]


def _row(corners: NDArray[np.float32], text: str, score: float) -> TextLineRow:
    """Return a line as a row, without its margin; corners [4, 2] go around it."""
    centre, sides, angle = cv2.minAreaRect(np.asarray(corners, np.float32))
    margin = 2 * MARGIN * min(sides)
    line = max(0.0, sides[0] - margin), max(0.0, sides[1] - margin)
    points = cv2.boxPoints((centre, line, angle))
    (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    return {
        "text": text,
        "x": left,
        "y": top,
        "width": right - left,
        "height": bottom - top,
        "area_px": line[0] * line[1],
        "score": float(score),
    }
