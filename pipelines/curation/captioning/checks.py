"""What a caption must hold to before it may train a model. Pure functions.

Structure first (one text for each shot, entities declared and referred to properly); then CLIP: a
text must suit its own pictures as well as its siblings'; then, if asked for, a model's verdict. A
check that fails quotes the text that failed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fw_model.schemas.curated import CaptionReason
from pipelines.curation.captioners.base import SceneCaption, SceneView, ShotCaption, Verdict
from pipelines.curation.config import ValidationConfig

Floats = NDArray[np.float32]
QUOTED = 160
PERSON = "person"
ABOUT_PICTURES = frozenset({"clip_rank", "verdict"})


@dataclass(frozen=True)
class Check:
    """One rule: whether it held, and what broke it."""

    check: str
    passed: bool
    detail: str = ""


def check_structure(
    caption: SceneCaption, scene: SceneView, config: ValidationConfig
) -> list[Check]:
    """Check that a caption covers its scene and refers only to what it declares."""
    wanted = [shot.shot_id for shot in scene.shots]
    given = [shot.shot_id for shot in caption.shots]
    declared = [entity.id for entity in caption.entities]
    doubled = sorted({i for i in declared if declared.count(i) > 1})
    used = {i for shot in caption.shots for i in shot.entity_ids}
    idle = sorted(set(declared) - used)
    return [
        _check(
            "shots", given == wanted, f"{len(given)} texts for {len(wanted)} shots or unordered"
        ),
        _references(caption.shots, set(declared)),
        _check("entities_unique", not doubled, f"entities declared twice: {doubled}"),
        _check("entities_used", not idle, f"entities declared but in no shot: {idle}"),
        _check(
            "entities_few",
            len(declared) <= config.max_entities,
            f"{len(declared)} entities, at most {config.max_entities} are allowed",
        ),
        _lengths(caption.shots, config),
    ]


def crowd(caption: SceneCaption, config: ValidationConfig) -> str | None:
    """Return which shot shows too many people, in words; None if none does.

    People are the entities that a captioner calls persons; a background crowd is none of them.
    """
    if config.max_people is None:
        return None
    people = {e.id for e in caption.entities if e.kind.strip().lower() == PERSON}
    for number, shot in enumerate(caption.shots, start=1):
        count = len(people & set(shot.entity_ids))
        if count > config.max_people:
            return f"shot {number} shows {count} people, at most {config.max_people} are wanted"
    return None


def _references(shots: Sequence[ShotCaption], declared: set[str]) -> Check:
    unknown = sorted({i for shot in shots for i in shot.entity_ids} - declared)
    wrong = [shot for shot in shots if set(shot.entity_ids) - declared]
    detail = f"shots refer to undeclared entities {unknown}: {_quotes(shots, wrong)}"
    return _check("entity_ids", not unknown, detail)


def _lengths(shots: Sequence[ShotCaption], config: ValidationConfig) -> Check:
    low, high = config.min_characters, config.max_characters
    odd = [shot for shot in shots if not low <= len(shot.text.strip()) <= high]
    sizes = [len(shot.text.strip()) for shot in odd]
    detail = f"texts of {sizes} characters, allowed are {low} to {high}: {_quotes(shots, odd)}"
    return _check("length", not odd, detail)


def check_rank(
    caption: SceneCaption,
    scene: SceneView,
    config: ValidationConfig,
    embed_text: Callable[[Sequence[str]], Floats],
) -> list[Check]:
    """Check that each text ranks its own shot first among the scene's, within the margin.

    Shots whose pictures are nearly the same are no rivals: either text suits both.
    """
    rows = [shot.embedding for shot in scene.shots if shot.embedding is not None]
    margin = config.min_own_rank_margin
    if margin is None or len(rows) < 2 or len(rows) < len(scene.shots):
        return []
    pictures = np.stack(rows)  # [S, E]
    scores = pictures @ embed_text([shot.text for shot in caption.shots]).T  # [S pictures, S texts]
    rivals = pictures @ pictures.T < config.same_pictures_cosine
    np.fill_diagonal(rivals, True)
    best = np.where(rivals, scores, -np.inf).max(0)  # [S texts]
    lacking = [
        shot
        for shot, lacks in zip(caption.shots, best - np.diag(scores) > margin, strict=True)
        if lacks
    ]
    detail = f"texts that suit another shot of the scene more: {_quotes(caption.shots, lacking)}"
    return [_check("clip_rank", not lacking, detail)]


def check_verdict(caption: SceneCaption, verdict: Verdict) -> Check:
    """Check that the model found nothing wrong."""
    wrong = [
        f"shot {number} {shot.text[:QUOTED]!r}: {problem}"
        for number, (shot, problem) in enumerate(
            zip(caption.shots, verdict.problems, strict=True), start=1
        )
        if problem
    ]
    return _check("verdict", not wrong, "; ".join(wrong))


def complaints(checks: Sequence[Check]) -> list[str]:
    """Return what broke, in words for a captioner that is asked again."""
    return [f"{check.check}: {check.detail}" for check in checks if not check.passed]


def rejection(checks: Sequence[Check]) -> CaptionReason | None:
    """Return why a caption is rejected, None if every check held."""
    failed = {check.check for check in checks if not check.passed}
    if not failed:
        return None
    return CaptionReason.MISMATCH if failed <= ABOUT_PICTURES else CaptionReason.INVALID


def _quotes(shots: Sequence[ShotCaption], chosen: Sequence[ShotCaption]) -> str:
    return "; ".join(f"shot {shots.index(s) + 1} {s.text[:QUOTED]!r}" for s in chosen)


def _check(name: str, passed: bool, detail: str) -> Check:
    return Check(name, bool(passed), "" if passed else detail)
