"""Scenes in words for evaluation: who is in them and how they look, shot after shot.

The recipe is the paper's: a prompt describes how the characters look, what they do, the type of the
shot and its colour style; a scene is one or two characters in one place over consecutive shots.
Knows nothing about who writes scenes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from fw_model.config import StrictModel, validate
from fw_model.errors import ConfigError, InputError
from fw_model.evaluation.stories.truth import FigureTruth, ShotTruth, StoryTruth

PACKAGED_SCENES = Path(__file__).parent / "scenes20x5.json"


class WrittenCharacter(StrictModel):
    """A person or thing that recurs in a scene."""

    name: str = Field(
        min_length=3,
        max_length=120,
        description="Noun phrase with its article that describes only this character of the "
        "scene ('an old fisherman with a white beard'); prompts use its words.",
    )
    appearance: str = Field(
        min_length=3,
        max_length=300,
        description="What stays the same: clothes, colours, material; every prompt repeats it.",
    )


class WrittenShot(StrictModel):
    """The prompt for a video model, and what it asks for."""

    prompt: str = Field(
        min_length=8, max_length=2000, description="One or two complete, self-contained sentences."
    )
    shot_type: str = Field(
        min_length=3, max_length=60, description="Framing, in the words of the prompt: wide shot."
    )
    characters: tuple[str, ...] = Field((), description="Names of the characters in the picture.")
    place_index: int = Field(
        0, ge=0, le=100, description="Shots with the same number share a place."
    )


class WrittenScene(StrictModel):
    """A short story in consecutive shots."""

    id: str = Field(
        pattern=r"^[a-z0-9_]{2,60}$", description="Short name: lower case, digits, underscores."
    )
    title: str = Field(min_length=3, max_length=120, description="A few words.")
    colour_style: str = Field(
        min_length=3, max_length=120, description="Colours and look, in the words of the prompts."
    )
    characters: tuple[WrittenCharacter, ...] = Field(
        min_length=1, max_length=3, description="One to three characters."
    )
    shots: tuple[WrittenShot, ...] = Field(
        min_length=1, max_length=64, description="Shots in order."
    )

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = [character.name for character in self.characters]
        if len({name.lower() for name in names}) < len(names):
            raise ValueError("two characters have the same name")
        for number, shot in enumerate(self.shots, start=1):
            for name in shot.characters:
                if name not in names:
                    raise ValueError(
                        f"shot {number} names {name!r}, which is not in characters: {names}"
                    )
        return self

    def truth(self, seed: int) -> StoryTruth:
        """Return what the scene asks for as story number `seed`."""
        shots = [
            ShotTruth(
                s.prompt, place_index=s.place_index, figures=tuple(map(FigureTruth, s.characters))
            )
            for s in self.shots
        ]
        return StoryTruth(seed, tuple(shots))


class SceneSet(StrictModel):
    """A file of scenes."""

    about: str = Field("", description="Where the scenes come from, for readers.")
    scenes: tuple[WrittenScene, ...] = Field(min_length=1, description="Story 0, story 1, ...")

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        ids = [scene.id for scene in self.scenes]
        for scene_id in ids:
            if ids.count(scene_id) > 1:
                raise ValueError(f"two scenes have the id {scene_id!r}")
        return self


def parse_scenes(tree: Mapping[str, Any], where: str) -> SceneSet:
    """Build a set of scenes; InputError names the key, the value and the broken rule."""
    try:
        return validate(SceneSet, dict(tree), where)
    except ConfigError as error:
        raise InputError(str(error)) from error


def load_scenes(path: str | Path) -> SceneSet:
    """Read a file of scenes; InputError if it cannot be read or is not valid."""
    try:
        tree = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}.") from error
    if not isinstance(tree, dict):
        raise InputError(f"{path} must hold a mapping with 'scenes', not a {type(tree).__name__}.")
    return parse_scenes(tree, str(path))


@cache
def packaged_scenes() -> SceneSet:
    """Return the 20 scenes of 5 shots that come with this project."""
    return load_scenes(PACKAGED_SCENES)


# The share of the words of an appearance or a style that a prompt must repeat. Not all of them: a
# close-up does not need to mention the boots.
_REPEATED = 0.6
_SHORTEST_WORD = 4  # shorter words describe nothing: in, and, the


def recipe_faults(
    scene: WrittenScene, *, num_shots: int, min_words: int, max_words: int
) -> list[str]:
    """Return in words how `scene` breaks the recipe; an empty list if it does not.

    Checks only numbers and repeated words, not whether the story is good.
    """
    faults = []
    if len(scene.shots) != num_shots:
        faults.append(f"it has {len(scene.shots)} shots and should have {num_shots}")
    prompts = [shot.prompt for shot in scene.shots]
    if len(set(prompts)) < len(prompts):
        faults.append("two shots have the same prompt")
    types = {shot.shot_type.lower() for shot in scene.shots}
    if len(types) < min(3, num_shots):
        faults.append(f"it needs at least {min(3, num_shots)} different shot types")
    for character in scene.characters:
        count = sum(character.name in shot.characters for shot in scene.shots)
        if count < min(2, num_shots):
            faults.append(f"{character.name!r} is in {count} shot(s) and should be in more")
    for number, shot in enumerate(scene.shots, start=1):
        prompt_faults = _prompt_faults(scene, shot, min_words, max_words)
        faults += [f"shot {number} {fault}" for fault in prompt_faults]
    return faults


def _prompt_faults(
    scene: WrittenScene, shot: WrittenShot, min_words: int, max_words: int
) -> list[str]:
    faults = []
    count = len(shot.prompt.split())
    if not min_words <= count <= max_words:
        faults.append(f"has {count} words and should have {min_words} to {max_words}")
    if shot.shot_type.lower() not in shot.prompt.lower():
        faults.append(f"does not say its shot type {shot.shot_type!r} in its prompt")
    if _repeated(scene.colour_style, shot.prompt) < _REPEATED:
        faults.append(f"does not repeat the colour style {scene.colour_style!r}")
    for character in scene.characters:
        if character.name not in shot.characters:
            continue
        if _repeated(character.name, shot.prompt) < 1:
            faults.append(f"does not use all words of the name {character.name!r}")
        if _repeated(character.appearance, shot.prompt) < _REPEATED:
            faults.append(f"does not repeat the appearance {character.appearance!r}")
    return faults


def _repeated(phrase: str, prompt: str) -> float:
    """Return the share of the descriptive words of `phrase` that are in `prompt`."""
    words = {word for word in _words(phrase) if len(word) >= _SHORTEST_WORD}
    return len(words & _words(prompt)) / len(words) if words else 1.0


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
