"""What tests of several files share."""

from pathlib import Path

import numpy as np
import pytest

from fw_model.media.video import VideoWriter


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 frames of 64x32 at 24 fps: grey level 5 x frame number, a red column at each side."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with VideoWriter(path, fps=24, crf=1) as writer:
        for number in range(48):
            frame = np.full((32, 64, 3), 5 * number, np.uint8)
            frame[:, :12] = frame[:, -12:] = (255, 0, 0)
            writer.write(frame)
    return path
