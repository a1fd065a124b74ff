"""Written scenes: the packaged ones keep to the recipe, and what breaks a rule is told."""

import json
import tomllib

import pytest
from open_clip.tokenizer import SimpleTokenizer

from fw_model.errors import InputError
from fw_model.evaluation.stories.scenes import (
    PACKAGED_SCENES,
    WrittenScene,
    load_scenes,
    packaged_scenes,
    recipe_faults,
)
from fw_model.evaluation.stories.truth import FigureTruth


def scene(**changes):
    """A scene of three shots without a fault."""
    looks = "a miller with a limp, in a blue linen shirt with wooden buttons"
    tree = {
        "id": "mill",
        "title": "The mill",
        "colour_style": "soft morning light",
        "characters": [
            {"name": "a miller with a limp", "appearance": "blue linen shirt, wooden buttons"}
        ],
        "shots": [
            {"prompt": f"A {kind} in soft morning light shows {looks}, who {action}.",
             "shot_type": kind, "characters": ["a miller with a limp"]}
            for kind, action in [
                ("wide shot", "opens the sluice"), ("close-up", "smells the flour"),
                ("low-angle shot", "lifts a sack"),
            ]
        ],
    }  # fmt: skip
    return {**tree, **changes}


def faults(tree, **settings):
    asked = {"num_shots": 3, "min_words": 10, "max_words": 40, **settings}
    return recipe_faults(WrittenScene.model_validate(tree), **asked)


def with_shot(number, **changes):
    shots = scene()["shots"]
    shots[number - 1] = {**shots[number - 1], **changes}
    return scene(shots=shots)


def test_the_packaged_scenes_are_20_of_5_shots_on_the_recipe():
    scenes = packaged_scenes().scenes
    assert len(scenes) == 20
    told = {s.id: recipe_faults(s, num_shots=5, min_words=25, max_words=60) for s in scenes}
    assert {scene_id: found for scene_id, found in told.items() if found} == {}


def test_the_packaged_scenes_do_not_repeat_one_another():
    scenes = packaged_scenes().scenes
    assert len({s.colour_style for s in scenes}) == 20
    assert len({c.name for s in scenes for c in s.characters}) == sum(
        len(s.characters) for s in scenes
    )
    assert len({shot.prompt for s in scenes for shot in s.shots}) == 100


def test_clip_reads_every_packaged_prompt_to_its_end():
    tokenizer = SimpleTokenizer()
    prompts = [shot.prompt for scene in packaged_scenes().scenes for shot in scene.shots]
    longest = max(len(tokenizer.encode(prompt)) for prompt in prompts)
    assert longest + 2 <= tokenizer.context_length  # its start and end tokens


def test_the_packaged_scenes_are_in_a_wheel(project_dir):
    tool = tomllib.loads((project_dir / "pyproject.toml").read_text())["tool"]
    patterns = tool["setuptools"]["package-data"]["fw_model"]
    packed = {path for pattern in patterns for path in (project_dir / "fw_model").glob(pattern)}
    assert PACKAGED_SCENES in packed


def test_a_scene_on_the_recipe_has_no_fault():
    assert faults(scene()) == []


@pytest.mark.parametrize(
    ("tree", "settings", "words"),
    [
        (scene(), {"num_shots": 5}, "it has 3 shots and should have 5"),
        (scene(shots=[*scene()["shots"][:2], scene()["shots"][0]]), {}, "the same prompt"),
        (scene(shots=[*scene()["shots"][:2], scene()["shots"][0]]), {}, "3 different shot types"),
        (scene(), {"max_words": 20}, "shot 1 has 2"),
        (scene(), {"min_words": 30}, "should have 30 to 40"),
        (with_shot(2, shot_type="medium shot"), {}, "shot 2 does not say its shot type"),
        (scene(colour_style="cold moonlight"), {}, "shot 1 does not repeat the colour style"),
        (with_shot(3, prompt="A low-angle shot in soft morning light: a miller lifts a sack, in a "
                   "blue linen shirt with wooden buttons."), {}, "shot 3 does not use all words"),
        (with_shot(3, prompt="A low-angle shot in soft morning light: a miller with a limp lifts "
                   "a sack in a red shirt."), {}, "shot 3 does not repeat the appearance"),
        (scene(shots=[{**s, "characters": s["characters"] if s["shot_type"] == "close-up" else []}
                      for s in scene()["shots"]]), {}, "is in 1 shot(s) and should be in more"),
    ],
)  # fmt: skip
def test_each_departure_from_the_recipe_is_told(tree, settings, words):
    assert any(words in fault for fault in faults(tree, **settings))


def test_characters_out_of_the_picture_need_no_description():
    empty = with_shot(
        2, prompt="A close-up in soft morning light of grey flour in a sack.", characters=[]
    )
    assert faults(empty) == []


def test_a_scene_becomes_a_story_whose_figures_have_the_names_of_its_characters():
    tree = with_shot(2, characters=[], place_index=4)
    story = WrittenScene.model_validate(tree).truth(7)
    assert story.seed == 7
    assert [shot.prompt for shot in story.shots] == [shot["prompt"] for shot in tree["shots"]]
    miller = (FigureTruth("a miller with a limp"),)
    assert [shot.figures for shot in story.shots] == [miller, (), miller]
    assert [shot.place_index for shot in story.shots] == [0, 4, 0]
    assert not story.is_toy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scenes:", "is not JSON"),
        ("[]", "mapping with 'scenes', not a list"),
        ('{"scenes": []}', "'scenes'"),
        (json.dumps({"scenes": [scene(), scene()]}), "two scenes have the id 'mill'"),
        (json.dumps({"scenes": [scene(titel="x")]}), "scenes.0.titel"),
        (json.dumps({"scenes": [scene(id="The Mill")]}), "scenes.0.id"),
        (json.dumps({"scenes": [with_shot(2, characters=["a cat"])]}), "shot 2 names 'a cat'"),
        (json.dumps({"scenes": [with_shot(1, prompt="")]}), "scenes.0.shots.0.prompt"),
        (json.dumps({"scenes": [scene(characters=scene()["characters"] * 2)]}), "the same name"),
    ],
)
def test_a_file_that_is_no_set_of_scenes_is_refused_with_the_key(tmp_path, text, words):
    path = tmp_path / "scenes.json"
    path.write_text(text)
    with pytest.raises(InputError) as refused:
        load_scenes(path)
    assert words in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json"):
        load_scenes(tmp_path / "nowhere.json")
