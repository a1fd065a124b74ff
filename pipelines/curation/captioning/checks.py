"""The checks that a caption must pass. Pure functions.

First its structure: one text per shot, and no undeclared or unused entities. Then CLIP: a text must
match its own shot at least about as well as any other shot of the scene. Then, if asked for, a
model's verdict. A failed check quotes the texts that fail it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fw_model.schemas.curated import CaptionReason
from fw_model.schemas.curated_rows import CheckRow
from pipelines.curation.captioners.base import SceneCaption, SceneView, ShotCaption, Verdict
from pipelines.curation.config import ValidationConfig

Floats = NDArray[np.float32]
QUOTED_CHARACTERS = 160
PERSON = "person"
MISMATCH_CHECKS = frozenset({"clip_rank", "verdict"})


def check_structure(
    caption: SceneCaption, scene: SceneView, config: ValidationConfig
) -> list[CheckRow]:
    """Check that a caption covers its scene, and refers to exactly the entities it declares."""
    expected = [shot.shot_id for shot in scene.shots]
    found = [shot.shot_id for shot in caption.shots]
    declared = [entity.id for entity in caption.entities]
    repeated = sorted({i for i in declared if declared.count(i) > 1})
    used = {i for shot in caption.shots for i in shot.entity_ids}
    unused = sorted(set(declared) - used)
    return [
        _check(
            "shots",
            found == expected,
            f"{len(found)} texts for {len(expected)} shots, or in the wrong order",
        ),
        _references(caption.shots, set(declared)),
        _check("entities_unique", not repeated, f"entities declared twice: {repeated}"),
        _check("entities_used", not unused, f"entities declared but in no shot: {unused}"),
        _check(
            "entities_few",
            len(declared) <= config.max_entities,
            f"{len(declared)} entities, at most {config.max_entities} are allowed",
        ),
        _lengths(caption.shots, config),
    ]


def too_many_people(caption: SceneCaption, config: ValidationConfig) -> str | None:
    """Return a sentence about the first shot with too many people; None if there is none.

    People are the entities whose kind is person; a background crowd does not count.
    """
    if config.max_people is None:
        return None
    people = {e.id for e in caption.entities if e.kind.strip().lower() == PERSON}
    for number, shot in enumerate(caption.shots, start=1):
        count = len(people & set(shot.entity_ids))
        if count > config.max_people:
            return f"shot {number} shows {count} people, at most {config.max_people} are allowed"
    return None


def _references(shots: Sequence[ShotCaption], declared: set[str]) -> CheckRow:
    unknown = sorted({i for shot in shots for i in shot.entity_ids} - declared)
    wrong = [shot for shot in shots if set(shot.entity_ids) - declared]
    detail = f"shots refer to undeclared entities {unknown}: {_quotes(shots, wrong)}"
    return _check("entity_ids", not unknown, detail)


def _lengths(shots: Sequence[ShotCaption], config: ValidationConfig) -> CheckRow:
    low, high = config.min_characters, config.max_characters
    wrong = [shot for shot in shots if not low <= len(shot.text.strip()) <= high]
    lengths = [len(shot.text.strip()) for shot in wrong]
    detail = f"texts of {lengths} characters, allowed are {low} to {high}: {_quotes(shots, wrong)}"
    return _check("length", not wrong, detail)


def check_rank(
    caption: SceneCaption,
    scene: SceneView,
    config: ValidationConfig,
    embed_text: Callable[[Sequence[str]], Floats],
) -> list[CheckRow]:
    """Check that each text matches its own shot best among the scene's shots, within the margin.

    Shots with nearly the same keyframes are not compared: either text fits both.
    """
    rows = [shot.embedding for shot in scene.shots if shot.embedding is not None]
    margin = config.min_own_rank_margin
    if margin is None or len(rows) < 2 or len(rows) < len(scene.shots):
        return []
    pictures = np.stack(rows)  # [S, E]
    scores = pictures @ embed_text([shot.text for shot in caption.shots]).T  # [S pictures, S texts]
    compared = pictures @ pictures.T < config.same_pictures_cosine
    np.fill_diagonal(compared, True)
    best = np.where(compared, scores, -np.inf).max(0)  # [S texts]
    fails = best - np.diag(scores) > margin
    wrong = [shot for shot, fail in zip(caption.shots, fails, strict=True) if fail]
    detail = f"texts that match another shot of the scene better: {_quotes(caption.shots, wrong)}"
    return [_check("clip_rank", not wrong, detail)]


def check_verdict(caption: SceneCaption, verdict: Verdict) -> CheckRow:
    """Check that the model's verdict names no problem."""
    wrong = [
        f"shot {number} {shot.text[:QUOTED_CHARACTERS]!r}: {problem}"
        for number, (shot, problem) in enumerate(
            zip(caption.shots, verdict.problems, strict=True), start=1
        )
        if problem
    ]
    return _check("verdict", not wrong, "; ".join(wrong))


def complaints(checks: Sequence[CheckRow]) -> list[str]:
    """Return what failed, in words for the captioner's next attempt."""
    return [f"{check['check']}: {check['detail']}" for check in checks if not check["passed"]]


def rejection(checks: Sequence[CheckRow]) -> CaptionReason | None:
    """Return why a caption is rejected, None if it passes every check."""
    failed = {check["check"] for check in checks if not check["passed"]}
    if not failed:
        return None
    return CaptionReason.MISMATCH if failed <= MISMATCH_CHECKS else CaptionReason.INVALID


def _quotes(shots: Sequence[ShotCaption], chosen: Sequence[ShotCaption]) -> str:
    return "; ".join(f"shot {shots.index(s) + 1} {s.text[:QUOTED_CHARACTERS]!r}" for s in chosen)


def _check(name: str, passed: bool, detail: str) -> CheckRow:
    return {"check": name, "passed": bool(passed), "detail": "" if passed else detail}
