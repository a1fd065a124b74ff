"""Request and response bodies. Unknown keys are errors; responses link to related resources."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from fw_model.generation.story_file import MAX_CHUNKS, MAX_PROMPT_CHARACTERS

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
JobKind = Literal["shot", "extend", "regenerate"]


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is blank")
    return text


Prompt = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_PROMPT_CHARACTERS,
        description="Text that describes what the video shows.",
    ),
    AfterValidator(_not_blank),
]
Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_not_blank)]
NumChunks = Annotated[
    int, Field(ge=1, le=MAX_CHUNKS, strict=True, description="Length, in chunks of the model.")
]
Weight = Annotated[
    float, Field(gt=0, le=10, allow_inf_nan=False, description="Multiplies the retrieval score.")
]
Timestamp = Annotated[float, Field(description="Seconds since 1970-01-01 UTC.")]
Stale = Annotated[
    bool,
    Field(description="The shot was made from an earlier shot that has since been replaced."),
]
FrameSide = Annotated[
    int | None,
    Field(ge=16, strict=True, description="Pixels; the size the model was trained on if unset."),
]


class Request(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid")


class StoryRequest(Request):
    """A new story."""

    title: str = Field("untitled", min_length=1, max_length=200)
    seed: int = Field(
        0,
        ge=0,
        lt=2**63,
        strict=True,
        description="The same seed, shots and model give the same film.",
    )
    width: FrameSide = None
    height: FrameSide = None


class ShotReference(Request):
    """A reference that this shot must use, by id or by name."""

    reference_id: str | None = Field(None, max_length=200)
    name: str | None = Field(None, max_length=200)
    weight: Weight | None = None

    @model_validator(mode="after")
    def _is_named_once(self) -> ShotReference:
        if (self.reference_id is None) == (self.name is None):
            raise ValueError("give either the reference_id or the name of a reference, not both")
        return self

    @property
    def key(self) -> str:
        """The id or the name that was given."""
        return self.reference_id or self.name or ""


class ShotRequest(Request):
    """A new shot at the end of a story."""

    prompt: Prompt
    num_chunks: NumChunks = 1
    references: list[ShotReference] = Field(default_factory=list, max_length=16)
    top_k: int | None = Field(
        None,
        ge=0,
        le=64,
        strict=True,
        description="Keyframes to retrieve; the server's default if unset.",
    )
    negative_prompt: str = Field(
        "", max_length=MAX_PROMPT_CHARACTERS, description="What the video should not show."
    )
    num_inference_steps: int | None = Field(
        None,
        ge=1,
        le=1000,
        strict=True,
        description="Denoising steps; the server's default if unset.",
    )
    guidance_scale: float | None = Field(
        None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="Strength of classifier-free guidance; the server's default if unset.",
    )


class ExtendRequest(Request):
    """More chunks at the end of a shot, with a new prompt."""

    prompt: Prompt
    num_chunks: NumChunks = 1


class RegenerateRequest(Request):
    """A new version of a shot; `prompt` replaces the first prompt of the shot."""

    prompt: Prompt | None = None


class ReferenceForm(BaseModel):
    """The form fields that accompany a reference image."""

    name: Name
    weight: Weight = 1.0
    pinned: bool = Field(False, description="Every shot uses it, whatever its score.")
    muted: bool = Field(False, description="Only shots that name it use it.")


class AliveResponse(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class ReadyResponse(BaseModel):
    """The server can do its work."""

    status: Literal["ready", "cold"]
    num_generators: int


class JobResponse(BaseModel):
    """A job and its progress."""

    job_id: str
    story_id: str
    shot_id: str
    kind: JobKind
    version: int
    state: JobState
    num_chunks: int
    num_done: int
    step: int = Field(0, description="Finished denoising steps of the chunk in progress.")
    num_steps: int = 0
    error: str | None = Field(description="Why the job failed, or why it is being retried.")
    created_at: Timestamp
    started_at: Timestamp | None
    ended_at: Timestamp | None
    url: str


class SegmentResponse(BaseModel):
    """A part of a shot that was made with one prompt."""

    prompt: str
    num_chunks: int


class ShotResponse(BaseModel):
    """A shot, in the version that the film shows."""

    shot_id: str
    story_id: str
    index: int
    version: int
    stale: Stale
    segments: list[SegmentResponse]
    num_chunks_done: int
    num_frames: int
    video_url: str
    memory_url: str


class ReferenceResponse(BaseModel):
    """A reference image of a story."""

    reference_id: str
    story_id: str
    name: str
    weight: float
    pinned: bool
    muted: bool
    image_url: str


class StoryResponse(BaseModel):
    """A story with its shots in order, its references and its unfinished jobs."""

    story_id: str
    title: str
    seed: int
    width: int
    height: int
    created_at: Timestamp
    shots: list[ShotResponse]
    references: list[ReferenceResponse]
    jobs: list[JobResponse]
    video_url: str
    events_url: str


class StorySummary(BaseModel):
    """A story in a list."""

    story_id: str
    title: str
    created_at: Timestamp
    url: str


class StoryPage(BaseModel):
    """Stories, newest first."""

    stories: list[StorySummary]
    next: str | None = Field(description="`after` for the next page; null on the last page.")


class RetrievedResponse(BaseModel):
    """A keyframe that a segment read."""

    rank: int
    keyframe_id: str
    score: float = Field(description="Its weight times its similarity to the prompt.")
    weight: float
    pinned: bool
    shot_id: str | None
    shot_index: int | None
    reference: str | None
    frame: int
    caption: str
    image_url: str


class SegmentMemory(BaseModel):
    """What one segment was made from."""

    prompt: str
    num_chunks: int
    mode: str | None = Field(description="Mode of the first chunk; null until it is finished.")
    chunk_modes: list[str]
    retrieved: list[RetrievedResponse]


class MemoryResponse(BaseModel):
    """The keyframes and modes that a shot was made with."""

    shot_id: str
    index: int
    version: int
    stale: Stale
    mode: str | None
    segments: list[SegmentMemory]
