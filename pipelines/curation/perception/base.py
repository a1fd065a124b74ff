"""What perceives keyframes beyond CLIP: faces, text and explicit content; each a plug-in point.

Every one of them sees one picture at a time, uint8 RGB [H, W, 3] of any size. All are off unless
they are configured. Knows nothing about Ray or storage.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fw_model.errors import ConfigError
from fw_model.registry import resolve
from fw_model.schemas.curated_rows import FaceRow, TextLineRow
from pipelines.curation.config import FilterConfig, PerceptionConfig

Picture = NDArray[np.uint8]

FACE_DETECTORS: Mapping[str, str] = {
    "centerface": "pipelines.curation.perception.faces:CenterFace",
}
TEXT_READERS: Mapping[str, str] = {"rapidocr": "pipelines.curation.perception.text:RapidOcr"}
NSFW_SCORERS: Mapping[str, str] = {"open_nsfw": "pipelines.curation.perception.nsfw:OpenNsfw"}


class FaceDetector(Protocol):
    """Finds faces. `version` names all that decides the result, such as the weights."""

    version: str

    def find(self, picture: Picture) -> list[FaceRow]:
        """Return the faces in a picture."""
        ...


class TextReader(Protocol):
    """Reads text. `version` names all that decides the result, such as the weights."""

    version: str

    def read(self, picture: Picture) -> list[TextLineRow]:
        """Return the lines of text in a picture, in reading order."""
        ...


class NsfwScorer(Protocol):
    """Scores explicit content. `version` names all that decides the result."""

    version: str

    def score(self, picture: Picture) -> float:
        """Return the probability that a picture is explicit, 0..1."""
        ...


@dataclass(frozen=True)
class Perception:
    """The perceivers of a run; None for what is not looked for."""

    faces: FaceDetector | None = None
    text: TextReader | None = None
    nsfw: NsfwScorer | None = None

    def versions(self) -> dict[str, str]:
        """Return what decides the results, by perceiver; empty if there are none."""
        found = {"faces": self.faces, "text": self.text, "nsfw": self.nsfw}
        return {name: perceiver.version for name, perceiver in found.items() if perceiver}


def perception_in_use(perception: PerceptionConfig, filters: FilterConfig) -> PerceptionConfig:
    """Return the perceivers that run: those configured, and the packaged one for each threshold
    that would otherwise have nothing to compare."""
    return PerceptionConfig(
        faces=perception.faces or ("centerface" if filters.max_faces is not None else None),
        text=perception.text or ("rapidocr" if filters.max_subtitle_area is not None else None),
        nsfw=perception.nsfw or ("open_nsfw" if filters.max_nsfw is not None else None),
    )


def make_perception(config: PerceptionConfig) -> Perception:
    """Build the perceivers; ConfigError if one does not exist or its package is not installed."""
    return Perception(
        faces=_made(config.faces, FACE_DETECTORS, "face detector"),
        text=_made(config.text, TEXT_READERS, "text reader"),
        nsfw=_made(config.nsfw, NSFW_SCORERS, "NSFW scorer"),
    )


def _made(kind: str | None, table: Mapping[str, str], what: str) -> Any:
    if kind is None:
        return None
    try:
        perceiver = resolve(kind, table, what)()
        if not isinstance(perceiver.version, str):
            raise TypeError("its `version` is not a string")
    except (TypeError, ValueError, LookupError, AttributeError, OSError) as error:
        raise ConfigError(
            f"The {what} {kind!r} cannot be used: {error}; correct curation.perception."
        ) from error
    return perceiver
