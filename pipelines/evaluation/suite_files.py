"""Reads files of stories in this project's format and in public ones, one function per format.

The format is recognised from the content, never from the name. Prompts are taken word for word.
Public files do not say which shots share a place, so all shots of a story count as one place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, Field, StringConstraints

from fw_model.config import ModelT, validate
from fw_model.errors import ConfigError, InputError
from fw_model.evaluation.stories.scenes import parse_scenes
from fw_model.evaluation.stories.truth import FigureTruth, ShotTruth, StoryTruth
from pipelines.storage.store import local_copy

Stories = tuple[StoryTruth, ...]
Entry = TypeVar("Entry", bound=BaseModel)
Prompt = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Prompts = Annotated[list[Prompt], Field(min_length=1)]


def read_suite(uri: str) -> Stories:
    """Return the stories of a file or URI, numbered from 0; InputError if no format fits."""
    content = _content(uri)
    for fits, read in IMPORTERS:
        if fits(content):
            return read(content, uri)
    raise InputError(
        f"{uri} is not in a known story format: it must be a mapping with 'scenes'; a list of "
        "'segment_prompts', of 'id' and 'prompts', or of 'prompt_en'; or text with one shot per "
        "line and ### between stories."
    )


def _content(uri: str) -> Any:
    """Return the content of a JSON file, or plain text; InputError for invalid JSON."""
    try:
        with local_copy(uri) as path:
            text = Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise InputError(f"Cannot read {uri}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{uri} is not UTF-8; stories must be JSON or text.") from error
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError as error:
        raise InputError(f"{uri} begins like JSON but is not valid: {error}.") from error


def read_scenes(content: Any, uri: str) -> Stories:
    """Read scenes of this project: fw_model/evaluation/stories/scenes.py."""
    scenes = parse_scenes(content, uri).scenes
    return tuple(scene.truth(number) for number, scene in enumerate(scenes))


class _Stories(BaseModel, Generic[Entry]):
    stories: list[Entry]


class _Preset(BaseModel):
    segment_prompts: Prompts


def read_dreamverse(content: Any, uri: str) -> Stories:
    """Read story presets of Dreamverse: [{id, label, segment_prompts}]."""
    presets = _validated(_Stories[_Preset], content, uri)
    return _numbered([preset.segment_prompts for preset in presets.stories])


class _MultishotTest(BaseModel):
    prompts: Prompts


def read_multishot(content: Any, uri: str) -> Stories:
    """Read multi-shot tests [{id, prompts}]; the figures are the identities ("ID_A is a ...")."""
    tests = _validated(_Stories[_MultishotTest], content, uri)
    stories = _numbered([test.prompts for test in tests.stories])
    return tuple(_with_identities(story) for story in stories)


class _SinglePrompt(BaseModel):
    prompt_en: Prompt


def read_vbench(content: Any, uri: str) -> Stories:
    """Read prompts of VBench [{prompt_en, dimension}], each a story of one shot."""
    singles = _validated(_Stories[_SinglePrompt], content, uri)
    return _numbered([[single.prompt_en] for single in singles.stories])


def read_mtvbench(content: Any, uri: str) -> Stories:
    """Read text of MTVBench: one shot per line, stories separated by lines of ###."""
    stories: list[list[str]] = [[]]
    for line in map(str.strip, content.splitlines()):
        if set(line) == {"#"}:
            stories.append([])
        elif line:
            stories[-1].append(line)
    filled = [shots for shots in stories if shots]
    if not filled:
        raise InputError(f"{uri} has no line that could be a shot; write one shot per line.")
    return _numbered(filled)


def _lists(key: str) -> Callable[[Any], bool]:
    """Return a function that checks for a list whose first entry has `key`."""
    return lambda content: (
        isinstance(content, list)
        and bool(content)
        and isinstance(content[0], dict)
        and key in content[0]
    )


def _is_separated_text(content: Any) -> bool:
    return isinstance(content, str) and re.search(r"^\s*###\s*$", content, re.MULTILINE) is not None


IMPORTERS: tuple[tuple[Callable[[Any], bool], Callable[[Any, str], Stories]], ...] = (
    (lambda content: isinstance(content, dict) and "scenes" in content, read_scenes),
    (_lists("segment_prompts"), read_dreamverse),
    (_lists("prompts"), read_multishot),
    (_lists("prompt_en"), read_vbench),
    (_is_separated_text, read_mtvbench),
)
"""(fits the content?, read it); the first that fits is used."""


def _validated(model: type[ModelT], content: Any, uri: str) -> ModelT:
    try:
        return validate(model, {"stories": content}, uri)
    except ConfigError as error:
        raise InputError(str(error)) from error


def _numbered(stories: Sequence[Sequence[str]]) -> Stories:
    return tuple(
        StoryTruth(number, tuple(ShotTruth(prompt) for prompt in prompts))
        for number, prompts in enumerate(stories)
    )


_IDENTITY = re.compile(r"\bID_[A-Z0-9]+\b")


def _with_identities(story: StoryTruth) -> StoryTruth:
    """Return the story with figures: the identities that a shot's prompt mentions, except those
    that it calls unseen and those that no prompt describes."""
    names = _identity_names([shot.prompt for shot in story.shots])
    shots = []
    for shot in story.shots:
        mentioned = set(_IDENTITY.findall(shot.prompt))
        seen = [i for i in names if i in mentioned and not _is_unseen(i, shot.prompt)]
        shots.append(replace(shot, figures=tuple(FigureTruth(names[i]) for i in seen)))
    return replace(story, shots=tuple(shots))


def _identity_names(prompts: Sequence[str]) -> dict[str, str]:
    """Return the first description of each identity that has one."""
    names: dict[str, str] = {}
    for identity in sorted(set(_IDENTITY.findall(" ".join(prompts)))):
        pattern = re.compile(rf"(?:^|[.!?]\s+){identity} is ([^.!?]+)")
        first = next((found for prompt in prompts if (found := pattern.search(prompt))), None)
        if first is not None:
            # "ID_A is a cook at the stove, is a man of forty": only the last part is permanent.
            words = first[1].split(", is ")[-1].strip()
            names[identity] = words if words not in names.values() else f"{words} ({identity})"
    return names


def _is_unseen(identity: str, prompt: str) -> bool:
    return re.search(rf"\b{identity} (never appears|is an? unseen)\b", prompt) is not None
