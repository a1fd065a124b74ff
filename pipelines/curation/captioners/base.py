"""What a captioner is: a whole scene in, one description of all its shots out.

All shots of a scene are described together, so that the same character has the same name
throughout: entities are declared once for the scene and shots refer to them by id.
Knows nothing of Ray.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fw_model.errors import ConfigError
from fw_model.registry import resolve
from fw_model.schemas.curated import CaptionReason
from pipelines.curation.captioners.limits import Purse
from pipelines.curation.config import CaptionerConfig, ValidationConfig
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
    """What a captioner may know of a shot. Frames are the shot's content, `[start, end)`."""

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


@dataclass(frozen=True)
class SceneView:
    """What a captioner may know of a scene; pictures are read when asked for."""

    scene_id: str
    video_id: str
    uri: str
    shots: tuple[ShotView, ...]
    store: Store

    def jpegs(self, shot: ShotView) -> list[bytes]:
        """Return the keyframes of a shot as JPEG; StorageError if one is missing."""
        return [self.store.read(uri) for uri in shot.keyframe_uris]

    def pictures(self, shot: ShotView) -> list[NDArray[np.uint8]]:
        """Return the keyframes of a shot, uint8 [h, w, 3]."""
        return [
            np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for jpeg in self.jpegs(shot)
        ]


@dataclass(frozen=True)
class Entity:
    """Somebody or something that shots refer to by `id`; `kind` is "" where nobody said."""

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
class Usage:
    """What a caption cost. A cached answer costs nothing."""

    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0

    def plus(self, other: Usage) -> Usage:
        """Return both together."""
        return Usage(
            self.requests + other.requests,
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
            self.cost_usd + other.cost_usd,
        )


@dataclass(frozen=True)
class SceneCaption:
    """An answer, good or not: with a `reason` there is none, and `detail` says why."""

    shots: tuple[ShotCaption, ...] = ()
    entities: tuple[Entity, ...] = ()
    style: str = ""
    usage: Usage = field(default_factory=Usage)
    cache_key: str = ""
    reason: CaptionReason | None = None
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a model thinks of a description: a problem for each shot, "" where it fits. With a
    `reason` there is no verdict, and `detail` says why."""

    problems: tuple[str, ...]
    usage: Usage = field(default_factory=Usage)
    reason: CaptionReason | None = None
    detail: str = ""


@dataclass(frozen=True)
class EngineAnswer:
    """What became of one question in this run: its tokens, or an error and no answer."""

    error: str = ""
    prompt_tokens: int = 0
    output_tokens: int = 0


class Captioner(Protocol):
    """Describes scenes. `model` and `prompt_version` go into every row; texts that are a guess are
    held against the pictures by CLIP."""

    model: str
    prompt_version: str
    is_guess: bool

    async def caption(self, scene: SceneView, complaints: Sequence[str] = ()) -> SceneCaption:
        """Describe a scene; `complaints` say what was wrong with an earlier answer.

        Faults of the scene or the endpoint come back as a reason and are not raised.
        """
        ...


@runtime_checkable
class Judge(Protocol):
    """A captioner that can also be asked whether a description suits its pictures."""

    async def judge(self, scene: SceneView, caption: SceneCaption) -> Verdict:
        """Say what does not fit. Faults come back as a reason and are not raised."""
        ...


@dataclass(frozen=True)
class Prompts:
    """Instructions to a model, read where the run is started: other machines lack the files."""

    caption: str
    verdict: str = ""


@dataclass(frozen=True)
class CaptionContext:
    """What the run gives a captioner beside its configuration.

    `prompts` are for captioners that ask a model; None: read now. `share` is the part of the
    run's rate limit that this captioner may use. `purse` holds the
    budget of the whole run; None: this captioner has the configured one for itself. `answers` is
    what an engine said in this run, for captioners that do not ask by themselves.
    """

    config: CaptionerConfig
    store: Store
    embedder: Embedder
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    prompts: Prompts | None = None
    share: float = 1.0
    purse: Purse | None = None
    answers: Mapping[str, EngineAnswer] = field(default_factory=dict)


def make_captioner(context: CaptionContext) -> Captioner:
    """Build the captioner named by the configuration."""
    captioner: Captioner = resolve(context.config.kind, CAPTIONERS, "captioner")(context)
    return captioner


def check_captioner(config: CaptionerConfig, validation: ValidationConfig) -> None:
    """Raise ConfigError for a captioner that is not there, or that cannot do what is asked."""
    captioner = resolve(config.kind, CAPTIONERS, "captioner")
    if validation.verdict and not hasattr(captioner, "judge"):
        raise ConfigError(
            f"The captioner {config.kind!r} cannot judge captions; set curation.validation.verdict "
            "to false, or choose openai or ray_llm."
        )


def scene_view(row: Mapping[str, Any], store: Store) -> SceneView:
    """Turn a row of captioning's input (a scene with its shots, see operators.py) into a view."""
    shots = tuple(
        ShotView(
            shot_id=shot["shot_id"],
            start_frame=shot["content_start_frame"],
            end_frame=shot["content_end_frame"],
            duration_s=shot["end_s"] - shot["start_s"],
            motion=shot["motion"],
            luma=shot["luma"],
            embedding=_row(shot["embedding"]),
            keyframe_frames=tuple(k["frame"] for k in shot["keyframes"]),
            keyframe_uris=tuple(k["uri"] for k in shot["keyframes"]),
            keyframe_sha256s=tuple(k["sha256"] for k in shot["keyframes"]),
        )
        for shot in row["shots"]
    )
    return SceneView(row["scene_id"], row["video_id"], row["uri"], shots, store)


def _row(embedding: Sequence[float] | None) -> NDArray[np.float32] | None:
    return None if embedding is None else np.asarray(embedding, np.float32)
