"""Lines of text with RapidOCR (PP-OCR), from the weights inside the package rapidocr.

The detector finds lines of any script; Latin letters, Chinese and Japanese are also read. A line
that cannot be read counts if it is as flat as a line.
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
MAX_UNREAD_HEIGHT, MIN_UNREAD_ASPECT = 0.12, 2.5  # of the picture's height; width to height
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
        self.version = f"rapidocr-2-{weights_digest(*weights)}"

    def read(self, picture: NDArray[np.uint8]) -> list[TextLineRow]:
        """Return the lines of text in a picture [H, W, 3], from top to bottom; the text of a line
        that cannot be read is empty."""
        bgr = np.ascontiguousarray(picture[..., ::-1])
        found = self._engine(bgr, use_rec=False)
        if found.boxes is None:
            return []
        read = self._engine(bgr, use_rec=True)
        words: dict[bytes, tuple[str, float]] = {}
        if read.boxes is not None and read.txts is not None:
            texts = zip(read.txts, read.scores, strict=True)
            words = dict(zip(map(_key, read.boxes), texts, strict=True))
        lines = [_row(corners, *words.get(_key(corners), ("", 0.0))) for corners in found.boxes]
        return [line for line in lines if _is_text(line, len(picture))]


def _key(corners: NDArray[np.float32]) -> bytes:
    return np.round(corners).astype(np.int32).tobytes()


def _is_text(line: TextLineRow, picture_height: int) -> bool:
    """Return whether a line that was found is one, and not a shape or a texture."""
    num_letters = sum(map(str.isalnum, line["text"]))
    if num_letters:
        return num_letters >= MIN_LETTERS
    is_low = line["height"] <= MAX_UNREAD_HEIGHT * picture_height
    return is_low and line["width"] >= MIN_UNREAD_ASPECT * line["height"]


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
