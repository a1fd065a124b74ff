"""What a caption must hold to before it may train a model. Pure functions.

Structure first (one text for each shot, entities declared and referred to properly); then, if asked
for, CLIP: the text of a shot must suit its own pictures better than its siblings' texts do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.captioners.base import SceneCaption, SceneView
from pipelines.curation_config import ValidationConfig

Floats = NDArray[np.float32]


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
    unknown = sorted({i for s in caption.shots for i in s.entity_ids} - set(declared))
    lengths = [len(shot.text.strip()) for shot in caption.shots]
    odd = [n for n in lengths if not config.min_characters <= n <= config.max_characters]
    doubled = sorted({i for i in declared if declared.count(i) > 1})
    used = {i for shot in caption.shots for i in shot.entity_ids}
    idle = sorted(set(declared) - used)
    return [
        _check(
            "shots", given == wanted, f"{len(given)} texts for {len(wanted)} shots or unordered"
        ),
        _check("entity_ids", not unknown, f"shots refer to undeclared entities {unknown}"),
        _check("entities_unique", not doubled, f"entities declared twice: {doubled}"),
        _check("entities_used", not idle, f"entities declared but in no shot: {idle}"),
        _check(
            "entities_few",
            len(declared) <= config.max_entities,
            f"{len(declared)} entities, at most {config.max_entities} are allowed",
        ),
        _check(
            "length",
            not odd,
            f"texts of {odd} characters, allowed are {config.min_characters} to "
            f"{config.max_characters}",
        ),
    ]


def check_rank(
    caption: SceneCaption,
    scene: SceneView,
    config: ValidationConfig,
    embed_text: Callable[[Sequence[str]], Floats],
) -> list[Check]:
    """Check that each text ranks its own shot first among its siblings', within the margin."""
    rows = [shot.embedding for shot in scene.shots]
    if config.min_own_rank_margin is None or len(rows) < 2 or any(row is None for row in rows):
        return []
    scores = (
        np.stack([row for row in rows if row is not None])
        @ embed_text([shot.text for shot in caption.shots]).T
    )  # [S pictures, S texts]
    own = np.diag(scores)
    lacking = scores.max(1) - own > config.min_own_rank_margin
    which = ", ".join(str(i + 1) for i in np.flatnonzero(lacking))
    return [_check("clip_rank", not lacking.any(), f"shots {which} suit another shot's text more")]


def complaints(checks: Sequence[Check]) -> list[str]:
    """Return what broke, in words for a captioner that is asked again."""
    return [f"{check.check}: {check.detail}" for check in checks if not check.passed]


def _check(name: str, passed: bool, detail: str) -> Check:
    return Check(name, bool(passed), "" if passed else detail)
