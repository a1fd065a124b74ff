"""The finder that asks an endpoint, against a server on loopback that says what a test tells it."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from fw_model.config import validate
from fw_model.errors import CapacityError, ConfigError
from fw_model.evaluation.judges.characters import found_by
from fw_model.evaluation.judges.config import CharactersConfig
from fw_model.evaluation.stories.truth import FigureTruth, FilmedShot, ShotTruth, StoryTruth
from pipelines.evaluation.character_finders import PROMPT_FILE, FinderContext, make_finder
from pipelines.storage.store import Store
from tests.pipelines.chat_server import ChatServer, answer

FRAME = np.full((40, 60, 3), 90, np.uint8)
NAMES = ("an old man in a red coat", "a grey cat")


def told(number, *edges):
    """One object of an answer; edges are left, top, right, bottom, none for an unseen character."""
    sides = dict(zip(("left", "top", "right", "bottom"), edges or [None] * 4, strict=True))
    return {"number": number, "seen": bool(edges), **sides}


def boxes(*characters):
    return answer(json.dumps({"characters": characters}))


GOOD = boxes(told(1, 100, 200, 500, 1000), told(2))


@pytest.fixture
def server():
    served = ChatServer(lambda number: GOOD)
    yield served
    served.close()


def config_of(server, **settings):
    return CharactersConfig(
        kind="openai", base_url=server.base_url, max_retry_wait_s=0.01, **settings
    )


@pytest.fixture
def find(server, tmp_path):
    """Ask for NAMES in a frame, by a new finder on the same store."""

    def asked(frame=FRAME, names=NAMES, **settings):
        context = FinderContext(config_of(server, **settings), Store(str(tmp_path)))
        return make_finder(context).find(frame, names)

    return asked


def test_the_middle_frame_and_the_names_are_asked_and_boxes_come_back_as_fractions(
    find, server, monkeypatch
):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    found = find(model="some-model")
    assert found.boxes == {NAMES[0]: (0.1, 0.2, 0.5, 1.0)}
    assert found.not_found == {NAMES[1]: "not seen"}
    (body,) = server.requests
    system, user = body["messages"]
    assert (body["model"], body["temperature"]) == ("some-model", 0)
    assert system["content"] == PROMPT_FILE.read_text(encoding="utf-8")
    assert user["content"][1]["text"].endswith(f"1. {NAMES[0]}\n2. {NAMES[1]}")
    data = user["content"][0]["image_url"]["url"].removeprefix("data:image/jpeg;base64,")
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert shown.shape == FRAME.shape
    assert abs(int(shown.mean()) - 90) <= 1
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["characters"]
    assert server.keys == ["Bearer secret"]


def test_without_a_schema_the_prompt_alone_asks(find, server):
    find(json_schema=False)
    assert "response_format" not in server.requests[0]


def test_the_same_question_is_asked_once(find, server, tmp_path):
    first = find()
    assert find() == first
    assert len(server.requests) == 1
    assert len(list((tmp_path / "answers" / "characters").glob("*/*.json"))) == 1
    find(frame=FRAME + 5)
    find(names=NAMES[:1])
    find(model="another")
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("characters", "why"),
    [
        ([told(1, 100, 200, 500, 1001), told(2)], "not inside the frame"),
        ([told(1, -1, 200, 500, 900), told(2)], "not inside the frame"),
        ([told(1, 500, 200, 100, 900), told(2)], "no area"),
        ([told(1, 100, 900, 500, 900), told(2)], "no area"),
        ([{"number": 1, "seen": True, "left": 5}, told(2)], "leaves out an edge"),
        ([told(1, 0.25, 0.5, 0.75, 1), told(2)], "valid integer"),
        ([{"number": 1, "seen": "perhaps"}, told(2)], "seen of the answer"),
        ([told(2)], "0 times"),
        ([told(1, 0, 0, 9, 9), told(1, 5, 5, 9, 9)], "2 times"),
        (["nothing"], "0 times"),
    ],
)
def test_a_box_that_is_none_costs_its_character_with_the_reason(server, tmp_path, characters, why):
    server.script = lambda number: boxes(*characters)
    finder = make_finder(FinderContext(config_of(server), Store(str(tmp_path))))
    shots = [FilmedShot(FRAME[None], (0,))]
    story = StoryTruth(0, (ShotTruth("a room", figures=tuple(map(FigureTruth, NAMES))),))
    found = found_by(finder, shots, story)
    assert not found.boxes
    assert why in found.rows_of(0)[NAMES[0]][0]["not_found"]


def test_one_bad_box_leaves_the_others(find, server):
    server.script = lambda number: boxes(told(1, "left", 0, 10, 10), told(2, 0, 0, 1000, 1000))
    found = find()
    assert set(found.boxes) == {NAMES[1]}
    assert "left" in found.not_found[NAMES[0]]


def test_an_answer_in_a_code_fence_is_read(find, server):
    server.script = lambda number: answer(
        "Here you are:\n```json\n" + json.dumps({"characters": [told(1, 0, 0, 5, 5)]}) + "```"
    )
    assert set(find().boxes) == {NAMES[0]}


@pytest.mark.parametrize("content", ["I see nobody.", '{"boxes": []}', '{"characters": 3}', "[1]"])
def test_an_answer_that_is_not_the_json_finds_nobody_and_is_not_kept(find, server, content):
    server.script = lambda number: answer(content)
    found = find()
    assert not found.boxes
    assert all("not the JSON" in why for why in found.not_found.values())
    assert set(found.not_found) == set(NAMES)
    server.script = lambda number: GOOD
    assert find().boxes


def test_a_model_that_refuses_finds_nobody(find, server):
    refusal = {"choices": [{"message": {"content": None, "refusal": "I do not look at people."}}]}
    server.script = lambda number: (200, {}, refusal)
    found = find()
    assert not found.boxes
    assert found.not_found[NAMES[0]] == "the model refuses to answer: I do not look at people."


def test_a_busy_endpoint_is_asked_again(find, server):
    busy = {1: (429, {"Retry-After": "0"}, {}), 2: (503, {}, {})}
    server.script = lambda number: busy.get(number, GOOD)
    assert find().boxes
    assert len(server.requests) == 3


@pytest.mark.parametrize(("status", "requests"), [(500, 2), (401, 1)])
def test_an_endpoint_without_an_answer_ends_the_run(find, server, status, requests):
    server.script = lambda number: (status, {}, {"error": "boom"})
    with pytest.raises(CapacityError, match=rf"HTTP {status}.*run the same command again"):
        find(max_attempts=2)
    assert len(server.requests) == requests


def test_a_run_spends_no_more_than_its_share_of_the_budget(server, tmp_path):
    config = config_of(
        server, budget_usd=0.16, usd_per_million_input_tokens=10, tokens_per_image=2000
    )
    finder = make_finder(FinderContext(config, Store(str(tmp_path)), share=0.5))
    content = GOOD[2]["choices"][0]["message"]["content"]
    server.script = lambda number: answer(content, tokens=(2000, 0))
    with pytest.raises(CapacityError, match="USD"):
        [finder.find(FRAME + level, NAMES) for level in range(10)]
    assert 0 < len(server.requests) * 0.02 <= 0.16 * 0.5


def test_the_version_changes_with_what_is_asked_and_not_with_where():
    def version(**settings):
        config = CharactersConfig(kind="openai", **settings)
        return make_finder(FinderContext(config, Store("."))).version

    base = version()
    assert version(base_url="http://localhost:9/v1", max_attempts=3) == base
    versions = {base, version(model="m"), version(json_schema=False), version(max_output_tokens=99)}
    assert len(versions) == 4


def test_a_remote_endpoint_without_a_key_says_which_variable_to_set(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = CharactersConfig(kind="openai", base_url="https://finder.example/v1")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        make_finder(FinderContext(config, Store(str(tmp_path))))


def test_kinds_are_none_a_known_one_or_code_of_ones_own(tmp_path):
    def made(kind):
        return make_finder(FinderContext(CharactersConfig(kind=kind), Store(str(tmp_path))))

    assert made("none") is None
    own = made("tests.pipelines.evaluation.own_finder:EverywhereFinder")
    assert own.find(FRAME, ["a cat"]).boxes == {"a cat": (0.0, 0.0, 1.0, 1.0)}
    with pytest.raises(ConfigError, match="openai"):
        made("gemini")


def test_a_setting_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="max_attempts"):
        validate(CharactersConfig, {"max_attempts": 0}, "here")
