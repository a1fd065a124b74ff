"""Finds the character of a frame by its face, offline.

A face has no name: with several characters in a shot, it cannot be said who is who, and each is
reported as not found with this reason. Knows nothing about films or metrics.
"""

from __future__ import annotations

from collections.abc import Sequence

from fw_model.evaluation.judges.characters import Sightings
from fw_model.evaluation.stories.truth import Pixels
from pipelines.curation.perception.crops import head_and_shoulders
from pipelines.curation.perception.faces import CenterFace
from pipelines.evaluation.character_finders import FinderContext


class FaceCharacterFinder:
    """The largest face of a frame is the only character that the shot asks for. Needs the extra
    [faces]; a missing package is a ConfigError."""

    def __init__(self, context: FinderContext) -> None:
        self._detector = CenterFace()
        self.version = f"faces-1-{self._detector.version}"

    def find(self, frame: Pixels, names: Sequence[str]) -> Sightings:
        """Return where the character is in a frame [H, W, 3], in fractions of it."""
        if len(names) != 1:
            reason = f"faces have no names, and the shot asks for {len(names)} characters"
            return Sightings(not_found=dict.fromkeys(names, reason))
        faces = self._detector.find(frame)
        if not faces:
            return Sightings(not_found={names[0]: "no face is found"})
        height, width = frame.shape[:2]
        largest = max(faces, key=lambda face: face["width"] * face["height"])
        x0, y0, x1, y1 = head_and_shoulders(largest, width=width, height=height)
        return Sightings({names[0]: (x0 / width, y0 / height, x1 / width, y1 / height)})
