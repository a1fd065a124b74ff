"""What a captioner is: it gets a whole scene and returns one description of all its shots.

All shots of a scene are described together, so that a character has the same name throughout:
entities are declared once per scene, and shots refer to them by id. Knows nothing about Ray.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypedDict, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fw_model.errors import ConfigError
from fw_model.registry import resolve
from fw_model.schemas.curated import CaptionReason
from pipelines.curation.config import CaptionerConfig, ValidationConfig
from pipelines.llm.budget import Budget
from pipelines.llm.usage import Usage
from pipelines.storage.store import Store

if TYPE_CHECKING:
    from fw_model.embedders.base import Embedder

CAPTIONERS: Mapping[str, str] = {
    "offline": "pipelines.curation.captioners.offline:OfflineCaptioner",
    "sidecar": "pipelines.curation.captioners.sidecar:SidecarCaptioner",
    "openai": "pipelines.curation.captioners.openai:OpenAiCaptioner",
    "ray_llm": "pipelines.curation.captioners.ray_llm:RayLlmCaptioner",
}


@dataclass(frozen=True)
class ShotView:
    """What a captioner knows about a shot. Frames are the shot's content, `[start, end)`.

    `num_faces`, `read_text` and `nsfw` are of the keyframe with the most; None if they were not
    looked for.
    """

    shot_id: str
    start_frame: int
    end_frame: int
    duration_s: float
    motion: float
    luma: float
    embedding: NDArray[np.float32] | None
    keyframe_frames: tuple[int, ...]
    keyframe_uris: tuple[str, ...]
    keyframe_sha256s: tuple[str, ...]
    num_faces: int | None = None
    read_text: tuple[str, ...] | None = None
    nsfw: float | None = None


@dataclass(frozen=True)
class SceneView:
    """What a captioner knows about a scene; keyframes are read on demand."""

    scene_id: str
    video_id: str
    uri: str
    shots: tuple[ShotView, ...]
    store: Store

    def jpegs(self, shot: ShotView) -> list[bytes]:
        """Return the keyframes of a shot as JPEG; StorageError if one is missing."""
        return self.store.read_many(shot.keyframe_uris)

    def all_jpegs(self) -> list[list[bytes]]:
        """Return the keyframes of every shot, as `jpegs` does, in as few requests as possible."""
        found = iter(self.store.read_many([u for shot in self.shots for u in shot.keyframe_uris]))
        return [[next(found) for _ in shot.keyframe_uris] for shot in self.shots]


@dataclass(frozen=True)
class Entity:
    """Somebody or something that shots refer to by `id`; `kind` is "" if unknown."""

    id: str
    name: str
    attributes: str = ""
    kind: str = ""


@dataclass(frozen=True)
class ShotCaption:
    """The text of one shot; `entity_ids` name entities of the scene."""

    shot_id: str
    text: str
    entity_ids: tuple[str, ...] = ()
    framing: str = ""


@dataclass(frozen=True)
class SceneCaption:
    """A description of a scene. If `reason` is set, there is none; `detail` explains why."""

    shots: tuple[ShotCaption, ...] = ()
    entities: tuple[Entity, ...] = ()
    style: str = ""
    usage: Usage = field(default_factory=Usage)
    cache_key: str = ""
    reason: CaptionReason | None = None
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """A model's verdict on a description: one problem per shot, "" where the text fits. If
    `reason` is set, there is no verdict; `detail` explains why."""

    problems: tuple[str, ...]
    usage: Usage = field(default_factory=Usage)
    reason: CaptionReason | None = None
    detail: str = ""


class EngineResponse(TypedDict):
    """How an engine on the cluster answered the question `key` in this run: tokens, or an error."""

    key: str
    error: str
    prompt_tokens: int
    output_tokens: int


class Captioner(Protocol):
    """Describes scenes. `model` and `prompt_version` go into every row. If `is_guess`, the texts
    are compared with the keyframes by CLIP."""

    model: str
    prompt_version: str
    is_guess: bool

    async def caption(self, scene: SceneView, complaints: Sequence[str] = ()) -> SceneCaption:
        """Describe a scene; `complaints` say what was wrong with an earlier description.

        A fault of the scene or the endpoint is returned as a reason, not raised.
        """
        ...


@runtime_checkable
class CaptionVerifier(Protocol):
    """A captioner that can also judge whether a description fits its keyframes."""

    async def verify(self, scene: SceneView, caption: SceneCaption) -> Verdict:
        """Return what does not fit. A fault is returned as a reason, not raised."""
        ...


@dataclass(frozen=True)
class Prompts:
    """Instructions to a model. They are read in the driver: workers do not have the files."""

    caption: str
    verdict: str = ""


@dataclass(frozen=True)
class CaptionContext:
    """What a run gives a captioner besides its configuration.

    `prompts`: None reads the files now. `share`: this captioner's part of the run's rate limit.
    `budget`: the run's; None: the configured one, for this captioner alone. `responses`: what an
    engine on the cluster has answered in this run, by question.
    """

    config: CaptionerConfig
    store: Store
    embedder: Embedder
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    prompts: Prompts | None = None
    share: float = 1.0
    budget: Budget | None = None
    responses: Mapping[str, EngineResponse] = field(default_factory=dict)


def make_captioner(context: CaptionContext) -> Captioner:
    """Build the captioner named by the configuration."""
    captioner: Captioner = resolve(context.config.kind, CAPTIONERS, "captioner")(context)
    return captioner


def check_captioner(config: CaptionerConfig, validation: ValidationConfig) -> None:
    """Raise ConfigError if the captioner does not exist or cannot do what the settings need."""
    captioner = resolve(config.kind, CAPTIONERS, "captioner")
    if validation.verdict and not hasattr(captioner, "verify"):
        raise ConfigError(
            f"The captioner {config.kind!r} cannot judge captions; set curation.validation.verdict "
            "to false, or choose openai or ray_llm."
        )
