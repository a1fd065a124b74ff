"""Every format of stories is recognised by its content and read word for word."""

import json
import os
from pathlib import Path

import pytest

from fw_model.errors import InputError
from fw_model.evaluation.stories.scenes import PACKAGED_SCENES, packaged_scenes
from pipelines.evaluation.suite_files import read_suite


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "suite.any"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def prompts(stories):
    return [[shot.prompt for shot in story.shots] for story in stories]


def test_scenes_of_this_project_are_stories_with_figures():
    stories = read_suite(str(PACKAGED_SCENES))
    scenes = packaged_scenes().scenes
    assert list(stories) == [scene.truth(number) for number, scene in enumerate(scenes)]


def test_presets_become_a_shot_a_segment(written):
    tree = [
        {"id": "a", "label": "A", "description": "", "segment_prompts": ["One.", " Two. "]},
        {"id": "b", "label": "B", "description": "", "segment_prompts": ["Three."]},
    ]
    stories = read_suite(written(tree))
    assert prompts(stories) == [["One.", "Two."], ["Three."]]
    assert [story.seed for story in stories] == [0, 1]


def test_identities_of_multishot_tests_become_figures_where_they_are_seen(written):
    shots = [
        "ID_A is a baker at the oven, is a woman of fifty in a white cap. ID_A lifts a loaf.",
        "Slowly, ID_A hands it to ID_B. ID_B is a boy with a basket. ID_C waits.",
        "ID_A is a woman of fifty with flour on her nose. ID_D is an unseen narrator. "
        "ID_D never appears.",
        "An empty street.",
    ]
    (story,) = read_suite(written([{"id": "t.json", "prompts": shots}]))
    baker, boy = "a woman of fifty in a white cap", "a boy with a basket"
    assert [[f.kind for f in shot.figures] for shot in story.shots] == [
        [baker], [baker, boy], [baker], []
    ]  # fmt: skip
    assert prompts([story]) == [shots]


def test_two_identities_of_one_description_keep_two_names(written):
    shots = ["ID_A is a guard in grey. ID_B is a guard in grey."]
    (story,) = read_suite(written([{"id": "t", "prompts": shots}]))
    assert [f.kind for f in story.shots[0].figures] == ["a guard in grey", "a guard in grey (ID_B)"]


def test_single_prompts_are_stories_of_one_shot(written):
    tree = [
        {"prompt_en": "a kite over a field", "dimension": ["color"]},
        {"prompt_en": "a red bus", "dimension": ["color"], "auxiliary_info": {"color": "red"}},
    ]
    assert prompts(read_suite(written(tree))) == [["a kite over a field"], ["a red bus"]]


def test_text_has_a_shot_a_line_and_parts_stories_by_hashes(written):
    text = "###\nA hen walks.\n\nA hen sleeps.  \n ### \nA cow eats.\n###\n###\n"
    assert prompts(read_suite(written(text))) == [
        ["A hen walks.", "A hen sleeps."],
        ["A cow eats."],
    ]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not in a known story format"),
        ("A hen walks.\nA hen sleeps.", "### between stories"),
        ([], "not in a known story format"),
        (["A hen walks."], "not in a known story format"),
        ([{"text": "A hen walks."}], "'prompt_en'"),
        ({"stories": []}, "not in a known story format"),
        ('[{"prompt_en": "a hen"', "begins like JSON"),
        ("###\n###", "no line that could be a shot"),
        ([{"segment_prompts": ["One."]}, {"segment_prompts": []}], "stories.1.segment_prompts"),
        ([{"id": "a", "prompts": ["One.", "  "]}], "stories.0.prompts.1"),
        ([{"prompt_en": "a hen"}, {"prompt": "a cow"}], "stories.1.prompt_en"),
        ({"scenes": [{"id": "mill"}]}, "scenes.0.title"),
    ],
)
def test_what_fits_no_format_is_refused_with_the_reason(written, content, words):
    path = written(content)
    with pytest.raises(InputError) as refused:
        read_suite(path)
    assert words in str(refused.value)
    assert path in str(refused.value)


def test_a_missing_file_and_one_that_is_not_text_are_named(tmp_path):
    with pytest.raises(InputError, match=r"Cannot read .*lost\.json"):
        read_suite(str(tmp_path / "lost.json"))
    (tmp_path / "film.mp4").write_bytes(b"\x00\xff\xfe")
    with pytest.raises(InputError, match=r"film\.mp4 is not UTF-8"):
        read_suite(str(tmp_path / "film.mp4"))


def test_a_suite_is_read_from_a_uri(written):
    path = written("A hen walks.\n###")
    assert prompts(read_suite(f"file://{path}")) == [["A hen walks."]]


@pytest.mark.parametrize(
    ("name", "num_shots"),
    [
        ("dreamverse_story_presets.json", [6] * 7),
        ("h3_multishot_tests_8.json", [15] * 6 + [11, 29]),
        ("mtvbench_p4_subset.txt", [4] * 8),
        ("vbench_full_info_946.json", [1] * 946),
    ],
)
def test_public_files_are_read_whole(project_dir, name, num_shots):
    folder = Path(os.environ.get("FILMWEAVER_TEST_PROMPTS", project_dir.parent / "shared/prompts"))
    if not (folder / name).exists():
        pytest.skip(f"no {name}: set FILMWEAVER_TEST_PROMPTS to a folder that holds it")
    stories = read_suite(str(folder / name))
    assert [len(story.shots) for story in stories] == num_shots
    for story in stories:
        assert len({f.kind for s in story.shots for f in s.figures if "ID_" in f.kind}) == 0
