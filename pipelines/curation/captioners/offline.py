"""Captions without a language model: CLIP chooses tags, and a template makes them a sentence.

Deterministic; needs no network and no GPU. What the whole scene shares (who, where, when) is
decided from all of its shots, so a character has the same name in each; what one shot shows
(framing, action) is decided from that shot, and so are faces and text, if perception is on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fw_model.config import load_yaml, validate
from fw_model.schemas.curated import CaptionReason
from pipelines.curation.captioners.base import (
    CaptionContext,
    Entity,
    SceneCaption,
    SceneView,
    ShotCaption,
    ShotView,
)
from pipelines.curation.captioners.vocabulary import PACKAGED, TagGroup, Vocabulary

Floats = NDArray[np.float32]
HIGH_MOTION = 6.0  # mean change of luma per frame
DARK_LUMA = 50.0
EXPLICIT = 0.8  # the level from which Yahoo calls a picture explicit
MAX_QUOTED = 120  # characters of on-screen text in a caption
_NUMBERS = {1: "One", 2: "Two", 3: "Three", 4: "Four", 5: "Five", 6: "Six"}


class OfflineCaptioner:
    """Describes scenes by zero-shot tags in a template."""

    prompt_version = "offline-1"
    is_guess = False  # CLIP itself chose the words

    def __init__(self, context: CaptionContext) -> None:
        path = context.config.vocabulary
        self._vocabulary = PACKAGED
        if path is not None:
            self._vocabulary = validate(Vocabulary, load_yaml(path), path)
        self._embedder = context.embedder
        self.model = context.embedder.model_id
        groups = type(self._vocabulary).model_fields
        self._tags = {name: self._embed(getattr(self._vocabulary, name)) for name in groups}

    async def caption(self, scene: SceneView, complaints: Sequence[str] = ()) -> SceneCaption:
        rows = [shot.embedding for shot in scene.shots if shot.embedding is not None]
        if len(rows) < len(scene.shots):
            missing = len(scene.shots) - len(rows)
            return SceneCaption(
                reason=CaptionReason.MEDIA_MISSING, detail=f"{missing} shots have no keyframe"
            )
        pictures = np.stack(rows)  # [S, E]
        whole = pictures.mean(0)  # [E]
        shared = {name: self._answer(name, whole) for name in ("entity", "place", "light", "style")}
        who = shared["entity"]
        entities = (Entity("e1", who, shared["style"]),) if who else ()
        shots = tuple(
            self._describe(shot, row, shared, entities)
            for shot, row in zip(scene.shots, pictures, strict=True)
        )
        return SceneCaption(shots=shots, entities=entities, style=shared["style"])

    def _embed(self, group: TagGroup) -> Floats:
        prompts = [group.template.format(tag) for tag in group.tags]
        return self._embedder.embed_text(prompts).cpu().numpy().astype(np.float32)  # [T, E]

    def _answer(self, name: str, picture: Floats) -> str:
        """Return the words of the best tag of a group, "" if no tag stands out."""
        group: TagGroup = getattr(self._vocabulary, name)
        scores = self._tags[name] @ picture  # [T]
        best = int(scores.argmax())
        if float(scores[best] - scores.mean()) < group.min_margin:
            return ""
        return list(group.tags.values())[best]

    def _describe(
        self, shot: ShotView, picture: Floats, shared: dict[str, str], entities: tuple[Entity, ...]
    ) -> ShotCaption:
        framing = self._answer("framing", picture)
        action = self._answer("action", picture)
        view = {"wide": "Wide shot", "medium": "Medium shot", "close": "Close-up"}.get(
            framing, "Shot"
        )
        who = _with_article(shared["entity"]) if shared["entity"] else "the scene"
        does = action if shared["entity"] else ""
        if not does:
            does = "with much movement" if shot.motion > HIGH_MOTION else "with little movement"
        when = shared["light"] or ("in the dark" if shot.luma < DARK_LUMA else "")
        text = " ".join(part for part in (f"{view}: {who}", does, shared["place"], when) if part)
        return ShotCaption(
            shot_id=shot.shot_id,
            text=" ".join((f"{text}.", *seen_sentences(shot))),
            entity_ids=tuple(e.id for e in entities),
            framing=framing,
        )


def seen_sentences(shot: ShotView) -> list[str]:
    """Return sentences about what perception has found in a shot; none if it is off."""
    sentences = []
    if shot.num_faces:
        count = _NUMBERS.get(shot.num_faces, str(shot.num_faces))
        sentences.append(f"{count} {'face is' if shot.num_faces == 1 else 'faces are'} visible.")
    if shot.read_text:
        words = " / ".join(shot.read_text).replace('"', "'")
        quoted = words if len(words) <= MAX_QUOTED else f"{words[:MAX_QUOTED].rstrip()}..."
        sentences.append(f'On-screen text: "{quoted}".')
    if shot.nsfw is not None and shot.nsfw >= EXPLICIT:
        sentences.append("The picture is explicit.")
    return sentences


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
