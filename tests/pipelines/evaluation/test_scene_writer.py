"""Scenes by a language model, against a server on loopback."""

import json

import pytest
from pydantic import ValidationError

from fw_model.errors import CapacityError, ConfigError, DataError, InputError
from fw_model.evaluation.stories.scenes import load_scenes
from pipelines.evaluation.scene_writer import WriterConfig, read_answer, run_write_scenes
from pipelines.evaluation.suite_files import read_suite
from tests.pipelines.chat_server import ChatServer, answer

ACTIONS = ("feeds the hens", "mends the fence", "shuts the gate")


def told(number=1, **changes):
    """What a model writes: a scene of three shots without a fault."""
    name = f"a farmer with hat number {number}"
    shots = [
        {"prompt": f"A {kind} in pale autumn colours shows {name}, in a long green coat, who "
                   f"{action} beside the old barn.",
         "shot_type": kind, "characters": [name], "place_index": 0}
        for kind, action in zip(("wide shot", "close-up", "medium shot"), ACTIONS, strict=True)
    ]  # fmt: skip
    return {
        "id": f"farm_{number}",
        "title": f"Farm {number}",
        "colour_style": "pale autumn colours",
        "characters": [{"name": name, "appearance": "a long green coat"}],
        "shots": shots,
        **changes,
    }


def scene(number=1, **changes):
    return answer(json.dumps(told(number, **changes)))


@pytest.fixture
def server():
    chat = ChatServer(scene)
    yield chat
    chat.close()


@pytest.fixture
def settings(server):
    def config(**changes):
        return WriterConfig(
            base_url=server.base_url,
            shots_per_scene=3,
            min_words=10,
            max_retry_wait_s=0.01,
            **{"num_scenes": 3, **changes},
        )

    return config


def titles(path):
    return [scene.title for scene in load_scenes(path).scenes]


def test_as_many_scenes_are_asked_for_as_wanted(server, settings, tmp_path):
    out = tmp_path / "new" / "scenes.json"
    done = []
    summary = run_write_scenes(settings(), out, on_progress=done.append)
    assert (summary.kept, summary.written, summary.left_out) == (0, 3, ())
    assert (summary.usage.requests, summary.usage.prompt_tokens) == (3, 3000)
    assert titles(out) == ["Farm 1", "Farm 2", "Farm 3"]
    assert done == [1, 2, 3]
    assert [story.seed for story in read_suite(str(out))] == [0, 1, 2]
    assert [path.name for path in out.parent.iterdir()] == ["scenes.json"]


def test_a_question_says_the_numbers_the_topic_and_what_there_is(server, settings, tmp_path):
    run_write_scenes(settings(num_scenes=2, topic="farms of old"), tmp_path / "scenes.json")
    first, second = (body["messages"][1]["content"] for body in server.requests)
    assert "3 shots" in first and "10 to 60 words" in first and "farms of old" in first
    assert "farm_1" not in first
    assert "farm_1: Farm 1; a farmer with hat number 1; pale autumn colours" in second
    assert server.requests[0]["response_format"]["json_schema"]["schema"]["required"]
    assert "shot_type" in server.requests[0]["messages"][0]["content"]


def test_without_a_schema_the_prompt_alone_asks(server, settings, tmp_path):
    run_write_scenes(settings(num_scenes=1, json_schema=False), tmp_path / "scenes.json")
    assert "response_format" not in server.requests[0]


def test_scenes_of_before_are_kept_and_only_the_rest_is_asked_for(server, settings, tmp_path):
    out = tmp_path / "scenes.json"
    run_write_scenes(settings(num_scenes=2), out)
    tree = json.loads(out.read_text())
    out.write_text(json.dumps({**tree, "about": "Mine."}))
    summary = run_write_scenes(settings(num_scenes=3), out)
    assert (summary.kept, summary.written) == (2, 1)
    assert titles(out) == ["Farm 1", "Farm 2", "Farm 3"]
    assert load_scenes(out).about == "Mine."
    before = out.read_bytes()
    assert run_write_scenes(settings(num_scenes=2), out).kept == 3
    assert (len(server.requests), out.read_bytes()) == (3, before)


def test_a_wrong_scene_is_asked_for_once_more_with_the_complaint(server, settings, tmp_path):
    server.script = lambda n: scene(n, colour_style="icy moonlight") if n == 1 else scene(n)
    summary = run_write_scenes(settings(num_scenes=1), tmp_path / "scenes.json")
    assert (summary.written, summary.usage.requests) == (1, 2)
    messages = server.requests[1]["messages"]
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert json.loads(messages[2]["content"])["colour_style"] == "icy moonlight"
    assert "shot 1 does not repeat the colour style 'icy moonlight'" in messages[3]["content"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("I would love to write a scene!", "not a JSON object"),
        ('{"id": "farm", "title": "cut o', "not a JSON object"),
        ('{"title": "Farm"}', "id: Field required"),
        (json.dumps({"scene": told()}), "shots: Field required"),
        (json.dumps(told(characters=[])), "characters: Tuple should have at least 1 item"),
        (json.dumps(told(shots=told()["shots"][:2])), "it has 2 shots and should have 3"),
    ],
)
def test_a_scene_that_stays_wrong_is_left_out_and_the_next_is_asked_for(
    server, settings, tmp_path, content, words
):
    server.script = lambda n: answer(content) if n <= 2 else scene(n)
    out = tmp_path / "scenes.json"
    summary = run_write_scenes(settings(num_scenes=2), out)
    assert (summary.written, len(summary.left_out), len(server.requests)) == (1, 1, 3)
    assert summary.left_out[0].startswith("scene 1: ")
    assert words in summary.left_out[0]
    assert words in server.requests[1]["messages"][3]["content"]
    assert titles(out) == ["Farm 3"]


def test_a_scene_that_is_there_already_is_a_wrong_one(server, settings, tmp_path):
    server.script = lambda n: scene(1)
    summary = run_write_scenes(settings(num_scenes=2), tmp_path / "scenes.json")
    assert (summary.written, len(server.requests)) == (1, 3)
    assert "another scene has the id 'farm_1'" in summary.left_out[0]
    assert "a prompt is copied from another scene" in summary.left_out[0]


def test_words_and_fences_around_the_scene_and_further_keys_do_no_harm(settings):
    shots = [{**shot, "lens": "wide"} for shot in told()["shots"]]
    content = f"Here it is:\n```json\n{json.dumps(told(mood='merry', shots=shots))}\n```"
    found, faults = read_answer(content, settings(), [])
    assert (found.id, faults) == ("farm_1", [])


def test_a_busy_endpoint_is_asked_again(server, settings, tmp_path):
    busy = {1: (429, {"Retry-After": "0"}, {}), 2: (503, {}, {})}
    server.script = lambda n: busy.get(n) or scene(n)
    summary = run_write_scenes(settings(num_scenes=1), tmp_path / "scenes.json")
    assert (summary.written, summary.usage.requests) == (1, 3)


def test_a_refusal_is_left_out_without_asking_again(server, settings, tmp_path):
    refusal = {"choices": [{"message": {"content": None, "refusal": "I will not."}}]}
    empty = {1: (200, {}, refusal), 2: (200, {}, {"choices": []})}
    server.script = lambda n: empty.get(n) or scene(n)
    summary = run_write_scenes(settings(), tmp_path / "scenes.json")
    assert (summary.written, len(server.requests)) == (1, 3)
    assert summary.left_out[0] == "scene 1: there is no scene: I will not."
    assert "has no message" in summary.left_out[1]


def test_when_no_answer_was_a_scene_nothing_is_written(server, settings, tmp_path):
    server.script = lambda n: answer("No.")
    with pytest.raises(DataError, match="scene 2: the answer is not a JSON object"):
        run_write_scenes(settings(num_scenes=2), tmp_path / "scenes.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("reply", "changes", "kind", "words"),
    [
        ((401, {}, {"error": "bad key"}), {}, ConfigError, "HTTP 401"),
        ((500, {}, {"error": "boom"}), {"max_attempts": 2}, CapacityError, "2 attempts failed"),
        (None, {"budget_usd": 0.0, "usd_per_million_output_tokens": 1.0}, CapacityError, "USD"),
    ],
)
def test_an_endpoint_without_answers_stops_the_run_and_keeps_what_is_written(
    server, settings, tmp_path, reply, changes, kind, words
):
    out = tmp_path / "scenes.json"
    run_write_scenes(settings(num_scenes=1), out)
    before = out.read_bytes()
    if reply is not None:
        server.script = lambda n: reply
    with pytest.raises(kind, match="holds 1 scenes; the same command continues") as stopped:
        run_write_scenes(settings(**changes), out)
    assert words in str(stopped.value)
    assert out.read_bytes() == before


def test_what_was_written_before_the_endpoint_failed_is_there(server, settings, tmp_path):
    server.script = lambda n: scene(n) if n < 3 else (400, {}, {})
    with pytest.raises(ConfigError, match="holds 2 scenes"):
        run_write_scenes(settings(), tmp_path / "scenes.json")
    assert titles(tmp_path / "scenes.json") == ["Farm 1", "Farm 2"]


def test_another_kind_of_file_is_not_overwritten(server, settings, tmp_path):
    out = tmp_path / "notes.json"
    out.write_text("[1, 2]")
    with pytest.raises(InputError, match=r"notes\.json"):
        run_write_scenes(settings(), out)
    assert (out.read_text(), server.requests) == ("[1, 2]", [])


def test_the_key_comes_from_the_environment(server, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("STORY_KEY", "abc")
    run_write_scenes(settings(num_scenes=1, api_key_env="STORY_KEY"), tmp_path / "scenes.json")
    assert server.keys == ["Bearer abc"]
    monkeypatch.delenv("STORY_KEY")
    far = WriterConfig(base_url="https://words.example/v1", api_key_env="STORY_KEY")
    with pytest.raises(ConfigError, match="STORY_KEY"):
        run_write_scenes(far, tmp_path / "other.json")


def test_lengths_must_be_a_range():
    with pytest.raises(ValidationError, match="min_words 61 is above max_words 60"):
        WriterConfig(min_words=61)
