"""How consistently a scene's caption names its entities: four counts, added up over all scenes.

*References*: every entity id in every shot; one is resolved if the scene declares it.

*Recurrences*: for each pair of shots of a scene that CLIP says show the same (cosine of their
pictures at least `same_pictures_cosine`) and that both name somebody, the shorter of the two casts
recurs: as many characters as it has should carry an id that the other shot has too. Of them those
count as the same whose id does. A close-up that shows one of two people is no fault; a woman who is
e1 in one shot and e3 in the next is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pipelines.curation.captioners.base import SceneCaption, SceneView


@dataclass(frozen=True)
class Consistency:
    """Counts of one caption, or of many."""

    references: int = 0
    references_resolved: int = 0
    recurrences: int = 0
    recurrences_same_id: int = 0


def measure_consistency(
    caption: SceneCaption, scene: SceneView, same_pictures_cosine: float
) -> Consistency:
    """Count the references and recurrences of a caption, good or not."""
    declared = {entity.id for entity in caption.entities}
    named = [i for shot in caption.shots for i in shot.entity_ids]
    casts = {shot.shot_id: set(shot.entity_ids) for shot in caption.shots}
    shared = [
        (len(first & second), min(len(first), len(second)))
        for first, second in (
            (casts.get(a, set()), casts.get(b, set()))
            for a, b in _alike(scene, same_pictures_cosine)
        )
    ]
    return Consistency(
        references=len(named),
        references_resolved=sum(i in declared for i in named),
        recurrences=sum(expected for _, expected in shared),
        recurrences_same_id=sum(same for same, _ in shared),
    )


def _alike(scene: SceneView, cosine: float) -> list[tuple[str, str]]:
    """Return the pairs of shots whose pictures CLIP cannot tell apart."""
    seen = [shot for shot in scene.shots if shot.embedding is not None]
    return [
        (a.shot_id, b.shot_id)
        for a, b in combinations(seen, 2)
        if float(np.dot(_row(a.embedding), _row(b.embedding))) >= cosine
    ]


def _row(embedding: np.ndarray | None) -> np.ndarray:
    assert embedding is not None
    return embedding
