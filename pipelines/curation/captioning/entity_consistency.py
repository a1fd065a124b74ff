"""How consistently a scene's caption names its entities: four counts, summed over all scenes.

*References* are the entity ids in all shots. A reference is resolved if the scene declares the id.

*Recurrences* are counted over the pairs of shots that look the same to CLIP (cosine of at least
`same_pictures_cosine`). In such a pair, every entity of the shot that has fewer of them should
appear in the other shot under the same id. The recurrences are the number of these entities, the
recurrences with the same id the number of ids that are in both shots. A close-up of one of two
people therefore counts as consistent; a woman who is e1 in one shot and e3 in the next does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pipelines.curation.captioners.base import SceneCaption, SceneView


@dataclass(frozen=True)
class Consistency:
    """Counts of one caption or of several."""

    references: int = 0
    references_resolved: int = 0
    recurrences: int = 0
    recurrences_same_id: int = 0


def measure_consistency(
    caption: SceneCaption, scene: SceneView, same_pictures_cosine: float
) -> Consistency:
    """Count the references and recurrences of a caption, accepted or not."""
    declared = {entity.id for entity in caption.entities}
    named = [i for shot in caption.shots for i in shot.entity_ids]
    casts = {shot.shot_id: set(shot.entity_ids) for shot in caption.shots}
    pairs = [
        (casts.get(a, set()), casts.get(b, set()))
        for a, b in _similar_pairs(scene, same_pictures_cosine)
    ]
    return Consistency(
        references=len(named),
        references_resolved=sum(i in declared for i in named),
        recurrences=sum(min(len(a), len(b)) for a, b in pairs),
        recurrences_same_id=sum(len(a & b) for a, b in pairs),
    )


def _similar_pairs(scene: SceneView, cosine: float) -> list[tuple[str, str]]:
    """Return the pairs of shots that look the same to CLIP."""
    embedded = [(s.shot_id, s.embedding) for s in scene.shots if s.embedding is not None]
    return [
        (a_id, b_id)
        for (a_id, a), (b_id, b) in combinations(embedded, 2)
        if float(np.dot(a, b)) >= cosine
    ]
