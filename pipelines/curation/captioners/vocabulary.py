"""The tags that the offline captioner chooses from.

A group is one question about the picture. A scene-wide group is answered once for the whole scene,
from the mean of its shots; the others once for each shot. If no tag stands out, the caption leaves
the question out.
"""

from __future__ import annotations

from pydantic import Field

from fw_model.config import StrictModel


class TagGroup(StrictModel):
    """One question. `template` turns a tag into the sentence that CLIP compares pictures with."""

    tags: dict[str, str] = Field(description="Tag that CLIP compares -> words in the caption.")
    template: str = Field("{}", description="Sentence around a tag; {} is the tag.")
    scene_wide: bool = Field(False, description="One tag for the whole scene.")
    is_entity: bool = Field(
        False, description="Has no effect; accepted because version 0.1 had it."
    )
    min_margin: float = Field(
        0.0, ge=0, le=2, description="How far the best tag must score above the group's mean."
    )


class Vocabulary(StrictModel):
    """All groups of tags."""

    framing: TagGroup = Field(description="How close the camera is.")
    entity: TagGroup = Field(description="Who or what is seen.")
    action: TagGroup = Field(description="What happens.")
    place: TagGroup = Field(description="Where it happens.")
    light: TagGroup = Field(description="When it happens.")
    style: TagGroup = Field(description="What kind of picture it is.")


def _same(*tags: str) -> dict[str, str]:
    return {tag: tag for tag in tags}


PACKAGED = Vocabulary(
    framing=TagGroup(
        tags={
            "wide shot": "wide",
            "medium shot": "medium",
            "close-up": "close",
        },
        template="a {}",
    ),
    entity=TagGroup(
        tags=_same(
            "bear", "rabbit", "robot", "ghost", "cat", "bird", "man", "woman", "child", "dog",
            "crowd of people", "horse", "car", "food", "plant",
        ),
        template="a {}",
        scene_wide=True,
        min_margin=0.01,
    ),
    action=TagGroup(
        tags={
            "walks": "walks", "jumps": "jumps", "waves": "waves", "spins around": "spins around",
            "sits": "sits", "dances": "dances", "stands still": "stands still", "talks": "talks",
            "runs": "runs", "eats": "eats", "fights": "fights",
        },
        template="a figure {}",
        min_margin=0.005,
    ),
    place=TagGroup(
        tags={
            "meadow": "in a meadow", "beach": "on the beach", "city street": "on a city street",
            "desert": "in the desert", "snowy mountains": "in the snowy mountains",
            "room": "in a room", "forest": "in a forest", "sea": "at sea", "church": "in a church",
            "kitchen": "in a kitchen", "laboratory": "in a laboratory", "space": "in space",
            "stage": "on a stage", "bridge": "on a bridge", "garden": "in a garden",
        },
        template="in a {}",
        scene_wide=True,
        min_margin=0.005,
    ),
    light=TagGroup(
        tags={"day": "by day", "dusk": "at dusk", "night": "at night"},
        template="at {}",
        scene_wide=True,
        min_margin=0.005,
    ),
    style=TagGroup(
        tags={
            "a cartoon": "cartoon", "a photograph": "photograph", "a film still": "film",
            "computer animation": "computer animation", "a screenshot": "screen recording",
        },
        scene_wide=True,
        min_margin=0.01,
    ),
)  # fmt: skip
