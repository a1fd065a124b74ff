"""The tables. Times are seconds since 1970; `*_blob` columns hold SHA-256 keys of the blob store.

A story is a list of shots; a shot has versions; a version is a list of segments (a prompt and a
number of chunks); a chunk is the unit of work, of leases and of commits. Jobs of one story run in
the order in which they were requested.
"""

from __future__ import annotations

from typing import ClassVar, TypedDict

from sqlalchemy import (
    JSON,
    BigInteger,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

ID = String(64)
BLOB_KEY = String(64)
UNFINISHED = ("queued", "running")  # states of a job


class ReferenceUse(TypedDict):
    """A reference that a shot names; its own weight applies where `weight` is None."""

    reference_id: str
    weight: float | None


class Base(DeclarativeBase):
    """Metadata of every table below."""

    type_annotation_map: ClassVar = {float: Float}  # as the migrations made them, not Double


class Story(Base):
    __tablename__ = "stories"

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    title: Mapped[str] = mapped_column(Text)
    seed: Mapped[int] = mapped_column(BigInteger)
    width: Mapped[int]
    height: Mapped[int]
    num_events: Mapped[int] = mapped_column(default=0)
    num_jobs: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[float]


class Shot(Base):
    """`version` is the one shown, `latest_version` the newest, which may be unfinished."""

    __tablename__ = "shots"
    __table_args__ = (UniqueConstraint("story_id", "index"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    story_id: Mapped[str] = mapped_column(ForeignKey("stories.id", ondelete="CASCADE"))
    index: Mapped[int]
    version: Mapped[int] = mapped_column(default=0)
    latest_version: Mapped[int] = mapped_column(default=0)
    stale: Mapped[bool] = mapped_column(default=False)
    top_k: Mapped[int | None]
    negative_prompt: Mapped[str] = mapped_column(Text, default="")
    num_inference_steps: Mapped[int | None]
    guidance_scale: Mapped[float | None]
    references: Mapped[list[ReferenceUse]] = mapped_column(JSON)
    created_at: Mapped[float]


class Segment(Base):
    """A part of a shot made with one prompt: the first from its creation, more from extending."""

    __tablename__ = "segments"
    __table_args__ = (UniqueConstraint("shot_id", "version", "index"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    shot_id: Mapped[str] = mapped_column(ForeignKey("shots.id", ondelete="CASCADE"))
    version: Mapped[int]
    index: Mapped[int]
    prompt: Mapped[str] = mapped_column(Text)
    num_chunks: Mapped[int]


class Job(Base):
    """`position` orders the jobs of one story; a job runs when all before it have ended."""

    __tablename__ = "jobs"
    __table_args__ = (
        UniqueConstraint("story_id", "position"),
        Index("ix_jobs_state", "state", "story_id", "position"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    story_id: Mapped[str] = mapped_column(ForeignKey("stories.id", ondelete="CASCADE"))
    shot_id: Mapped[str] = mapped_column(ForeignKey("shots.id", ondelete="CASCADE"))
    version: Mapped[int]
    position: Mapped[int]
    segment_id: Mapped[str | None] = mapped_column(ID)  # the one it makes; null if several
    kind: Mapped[str] = mapped_column(String(20))  # shot | extend | regenerate
    state: Mapped[str] = mapped_column(String(20))  # queued | running | done | failed | cancelled
    first_chunk: Mapped[int]  # index in the shot
    num_chunks: Mapped[int]
    num_done: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    ended_at: Mapped[float | None]


class Chunk(Base):
    """`epoch` counts claims and fences commits: only the latest claim's commit is accepted."""

    __tablename__ = "chunks"
    __table_args__ = (
        UniqueConstraint("shot_id", "version", "index"),
        Index("ix_chunks_job", "job_id", "index"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    story_id: Mapped[str] = mapped_column(ForeignKey("stories.id", ondelete="CASCADE"))
    shot_id: Mapped[str] = mapped_column(ForeignKey("shots.id", ondelete="CASCADE"))
    segment_id: Mapped[str] = mapped_column(ForeignKey("segments.id", ondelete="CASCADE"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    version: Mapped[int]
    index: Mapped[int]
    state: Mapped[str] = mapped_column(String(20))  # pending | running | done
    epoch: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[float | None]
    worker_id: Mapped[str | None] = mapped_column(String(120))  # the last one has it in memory
    ready_at: Mapped[float]  # may not be claimed earlier
    num_errors: Mapped[int] = mapped_column(default=0)
    num_lost: Mapped[int] = mapped_column(default=0)
    step: Mapped[int] = mapped_column(default=0)
    num_steps: Mapped[int] = mapped_column(default=0)
    mode: Mapped[str | None] = mapped_column(String(20))
    seed: Mapped[str | None] = mapped_column(String(24))  # decimal: it can need 64 bits unsigned
    latents_blob: Mapped[str | None] = mapped_column(BLOB_KEY)
    fragment_blob: Mapped[str | None] = mapped_column(BLOB_KEY)
    num_frames: Mapped[int | None]
    committed_at: Mapped[float | None]


class Keyframe(Base):
    """A row of the shared keyframe store; `shot_id` is null if it comes from a reference image."""

    __tablename__ = "keyframes"
    __table_args__ = (
        UniqueConstraint("reference_id"),
        Index("ix_keyframes_story", "story_id", "shot_id"),
    )

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    story_id: Mapped[str] = mapped_column(ForeignKey("stories.id", ondelete="CASCADE"))
    shot_id: Mapped[str | None] = mapped_column(ForeignKey("shots.id", ondelete="CASCADE"))
    chunk_id: Mapped[str | None] = mapped_column(ForeignKey("chunks.id", ondelete="CASCADE"))
    reference_id: Mapped[str | None] = mapped_column(
        ForeignKey("references.id", ondelete="CASCADE")
    )
    digest: Mapped[str] = mapped_column(String(64))  # the generator's id, which seeds its noise
    version: Mapped[int] = mapped_column(default=0)
    frame: Mapped[int]
    caption: Mapped[str] = mapped_column(Text)
    embedding: Mapped[bytes] = mapped_column(LargeBinary)  # float32, little endian
    model_id: Mapped[str] = mapped_column(Text)
    latents_blob: Mapped[str] = mapped_column(BLOB_KEY)
    image_blob: Mapped[str] = mapped_column(BLOB_KEY)
    created_at: Mapped[float]


class Reference(Base):
    """An image given by the user; the first worker that needs its keyframe makes it."""

    __tablename__ = "references"
    __table_args__ = (UniqueConstraint("story_id", "name"),)

    id: Mapped[str] = mapped_column(ID, primary_key=True)
    story_id: Mapped[str] = mapped_column(ForeignKey("stories.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(200))
    weight: Mapped[float]
    pinned: Mapped[bool] = mapped_column(default=False)
    muted: Mapped[bool] = mapped_column(default=False)
    image_blob: Mapped[str] = mapped_column(BLOB_KEY)
    created_at: Mapped[float]


class Retrieval(Base):
    """A keyframe that entered the context of a segment, with its score; rank 0 is the best."""

    __tablename__ = "retrievals"

    segment_id: Mapped[str] = mapped_column(
        ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True
    )
    rank: Mapped[int] = mapped_column(primary_key=True)
    keyframe_id: Mapped[str] = mapped_column(ForeignKey("keyframes.id", ondelete="CASCADE"))
    score: Mapped[float]
    weight: Mapped[float]
    pinned: Mapped[bool]


class Blob(Base):
    """A blob in the blob store that the database points at."""

    __tablename__ = "blobs"

    key: Mapped[str] = mapped_column(BLOB_KEY, primary_key=True)
    num_bytes: Mapped[int] = mapped_column(BigInteger)
    media_type: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[float]


class Event(Base):
    """The log of a story; `seq` grows by one and is the id of the event stream."""

    __tablename__ = "events"

    story_id: Mapped[str] = mapped_column(
        ForeignKey("stories.id", ondelete="CASCADE"), primary_key=True
    )
    seq: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    data: Mapped[dict[str, str | int]] = mapped_column(JSON)
    created_at: Mapped[float]


class Idempotency(Base):
    """The response to a request with an Idempotency-Key, stored together with its effect."""

    __tablename__ = "idempotency"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64))
    body: Mapped[dict[str, object]] = mapped_column(JSON)
    created_at: Mapped[float] = mapped_column(index=True)


class Usage(Base):
    """What a committed chunk cost."""

    __tablename__ = "usage"

    chunk_id: Mapped[str] = mapped_column(ID, primary_key=True)
    story_id: Mapped[str] = mapped_column(ID, index=True)
    mode: Mapped[str] = mapped_column(String(20))
    num_frames: Mapped[int]
    width: Mapped[int]
    height: Mapped[int]
    seconds: Mapped[float]
    created_at: Mapped[float] = mapped_column(index=True)


class Worker(Base):
    """A generator replica and when it was last alive; for readiness, never for correctness."""

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(120), primary_key=True)
    started_at: Mapped[float]
    seen_at: Mapped[float]


class ServerBinding(Base):
    """A named value that all servers of this database share; see serve.stores.server_binding."""

    __tablename__ = "facts"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[str] = mapped_column(Text)
