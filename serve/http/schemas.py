"""What the API takes and gives. Unknown keys are errors; every answer links to what it names."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from fw_model.generation.story_file import MAX_CHUNKS, MAX_PROMPT_CHARACTERS

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
JobKind = Literal["shot", "extend", "regenerate"]


def _says_something(prompt: str) -> str:
    if not prompt.strip():
        raise ValueError("the prompt is blank")
    return prompt


Prompt = Annotated[
    str, Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS), AfterValidator(_says_something)
]
NumChunks = Annotated[int, Field(ge=1, le=MAX_CHUNKS, strict=True)]
Weight = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]


class Request(BaseModel):
    """A request body."""

    model_config = ConfigDict(extra="forbid")


class StoryRequest(Request):
    """Begin a story. Sizes are pixels; the model's own where unset."""

    title: str = Field("untitled", min_length=1, max_length=200)
    seed: int = Field(0, ge=0, lt=2**63, strict=True)
    width: int | None = Field(None, ge=16, strict=True)
    height: int | None = Field(None, ge=16, strict=True)


class ShotReference(Request):
    """A reference that this shot must draw on, by id or by name."""

    reference_id: str | None = Field(None, max_length=200)
    name: str | None = Field(None, max_length=200)
    weight: Weight | None = None

    @model_validator(mode="after")
    def _is_named_once(self) -> ShotReference:
        if (self.reference_id is None) == (self.name is None):
            raise ValueError("give a reference's reference_id or its name, one of them")
        return self

    @property
    def key(self) -> str:
        """What it was named by."""
        return self.reference_id or self.name or ""


class ShotRequest(Request):
    """Add a shot to a story."""

    prompt: Prompt
    num_chunks: NumChunks = 1
    references: list[ShotReference] = Field(default_factory=list, max_length=16)
    top_k: int | None = Field(None, ge=0, le=64, strict=True)
    negative_prompt: str = Field("", max_length=MAX_PROMPT_CHARACTERS)
    num_inference_steps: int | None = Field(None, ge=1, le=1000, strict=True)
    guidance_scale: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)


class ExtendRequest(Request):
    """Go on with a shot, under a prompt of its own."""

    prompt: Prompt
    num_chunks: NumChunks = 1


class RegenerateRequest(Request):
    """Make a shot again; `prompt` replaces the one it began with."""

    prompt: Prompt | None = None


class ReferenceForm(BaseModel):
    """The fields that come with a reference image."""

    name: str = Field(min_length=1, max_length=200)
    weight: Weight = 1.0
    pinned: bool = False
    muted: bool = False

    @field_validator("name")
    @classmethod
    def _is_not_blank(cls, name: str) -> str:
        if not name.strip():
            raise ValueError("the name is blank")
        return name


class JobResponse(BaseModel):
    """A job; `error` is why it failed, or why it is being tried again."""

    job_id: str
    story_id: str
    shot_id: str
    kind: JobKind
    version: int
    state: JobState
    num_chunks: int
    num_done: int
    step: int = 0
    num_steps: int = 0
    error: str | None
    created_at: float
    started_at: float | None
    ended_at: float | None
    url: str


class SegmentResponse(BaseModel):
    """A part of a shot made with one prompt."""

    prompt: str
    num_chunks: int


class ShotResponse(BaseModel):
    """A shot in the version that is shown; `stale` if an earlier shot was since made again."""

    shot_id: str
    story_id: str
    index: int
    version: int
    stale: bool
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
    """A story with its shots in order and the jobs that have not ended."""

    story_id: str
    title: str
    seed: int
    width: int
    height: int
    created_at: float
    shots: list[ShotResponse]
    references: list[ReferenceResponse]
    jobs: list[JobResponse]
    video_url: str
    events_url: str


class StorySummary(BaseModel):
    """A story in a list."""

    story_id: str
    title: str
    created_at: float
    url: str


class StoryPage(BaseModel):
    """Stories, newest first; `next` goes into `after` for those behind them."""

    stories: list[StorySummary]
    next: str | None


class RetrievedResponse(BaseModel):
    """A keyframe that was read; `score` is its weight times its likeness to the prompt."""

    rank: int
    keyframe_id: str
    score: float
    weight: float
    pinned: bool
    shot_id: str | None
    shot_index: int | None
    reference: str | None
    frame: int
    caption: str
    image_url: str


class SegmentMemory(BaseModel):
    """What one segment was made from; `mode` is None until its first chunk is committed."""

    prompt: str
    num_chunks: int
    mode: str | None
    chunk_modes: list[str]
    retrieved: list[RetrievedResponse]


class MemoryResponse(BaseModel):
    """The caches a shot was made with."""

    shot_id: str
    index: int
    version: int
    stale: bool
    mode: str | None
    segments: list[SegmentMemory]
