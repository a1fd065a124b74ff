"""Settings of the server: where it keeps its state, leases, scaling and limits of requests."""

from __future__ import annotations

from pydantic import Field, model_validator

from fw_model.config import StrictModel


class LeaseConfig(StrictModel):
    """How a worker holds the chunk it is computing."""

    duration_s: float = Field(
        15.0, gt=0, le=3600, description="Seconds that a claim lasts without a heartbeat."
    )
    heartbeat_s: float = Field(
        5.0, gt=0, le=1200, description="Seconds between heartbeats; at most half of duration_s."
    )
    poll_s: float = Field(
        0.25, gt=0, le=60, description="Seconds between an idle worker's checks for work."
    )
    affinity_s: float = Field(
        2.0,
        ge=0,
        le=60,
        description="Seconds that a ready chunk waits for the worker with its story in memory.",
    )
    max_attempts: int = Field(
        3, ge=1, le=100, description="Number of errors of one chunk at which its job fails."
    )
    max_lost_leases: int = Field(
        50, ge=1, le=10000, description="Workers that may die on one chunk before its job fails."
    )
    retry_delay_s: float = Field(
        2.0, gt=0, le=3600, description="Seconds before a chunk is retried; doubles up to a minute."
    )

    @model_validator(mode="after")
    def _heartbeats_fit_the_lease(self) -> LeaseConfig:
        if self.heartbeat_s * 2 > self.duration_s:
            raise ValueError("heartbeat_s must be at most half of duration_s")
        return self


class ScalingConfig(StrictModel):
    """How many replicas run, and the resources of each."""

    min_replicas: int = Field(1, ge=0, le=1000, description="Generators that run when idle.")
    max_replicas: int = Field(1, ge=1, le=1000, description="Largest number of generators.")
    drain_target_s: float = Field(
        60.0, gt=0, le=86400, description="Seconds in which the generators should finish the queue."
    )
    default_chunk_s: float = Field(
        5.0, gt=0, le=3600, description="Assumed seconds per chunk until one is measured."
    )
    downscale_delay_s: float = Field(
        60.0,
        ge=0,
        le=86400,
        description="Seconds that work must stay low before generators are removed.",
    )
    graceful_shutdown_s: float = Field(
        120.0, gt=0, le=3600, description="Seconds for a removed generator to finish its chunk."
    )
    generator_cpus: float = Field(1.0, ge=0, le=256, description="CPUs reserved per generator.")
    generator_gpus: float = Field(
        0.0, ge=0, le=16, description="GPUs reserved per generator; may be a fraction."
    )
    ingress_cpus: float = Field(0.1, ge=0, le=64, description="CPUs reserved per HTTP ingress.")
    ingress_replicas: int = Field(1, ge=1, le=100, description="HTTP ingress replicas.")

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> ScalingConfig:
        if self.min_replicas > self.max_replicas:
            raise ValueError("min_replicas must not be above max_replicas")
        return self


class LimitsConfig(StrictModel):
    """Limits of requests, and timing of event streams."""

    max_image_bytes: int = Field(
        32 * 1024**2, ge=1024, le=1024**3, description="Largest size of a reference image in bytes."
    )
    max_request_bytes: int = Field(
        1024**2, ge=1024, le=1024**3, description="Largest size of any other request in bytes."
    )
    max_frame_px: int = Field(
        1920, ge=16, le=16384, description="Largest width or height of a story in pixels."
    )
    max_queued_jobs: int = Field(
        1000,
        ge=1,
        le=1_000_000,
        description="Number of unfinished jobs at which new ones get status 429.",
    )
    max_ongoing_requests: int = Field(
        500, ge=1, le=100_000, description="Most requests and event streams per ingress."
    )
    idempotency_hours: float = Field(
        24.0, gt=0, le=720, description="Hours for which an Idempotency-Key is remembered."
    )
    event_stream_s: float = Field(
        300.0,
        gt=0,
        le=86400,
        description="Seconds until an event stream ends and the client reconnects.",
    )
    event_poll_s: float = Field(
        0.25, gt=0, le=60, description="Seconds between reads of new events."
    )
    event_comment_s: float = Field(
        15.0, gt=0, le=600, description="Seconds between comments that keep an idle stream open."
    )


class ServingConfig(StrictModel):
    """`filmweaver serve`. The database is DATABASE_URL if set, else SQLite in data_dir."""

    host: str = Field("127.0.0.1", description="Address the server listens on.")
    port: int = Field(8000, ge=1, le=65535, description="Port the server listens on.")
    data_dir: str = Field(
        "out/serve", min_length=1, description="Folder of the SQLite file, blobs and films."
    )
    blobs_uri: str | None = Field(
        None, description="Where blobs are stored (path, s3://, gs://); data_dir/blobs if unset."
    )
    rebind: bool = Field(
        False,
        description="Make this server's model and blobs replace those recorded in the database.",
    )
    film_cache_bytes: int = Field(
        4 * 1024**3, ge=0, description="Size in bytes of the cache of assembled films."
    )
    fragment_crf: int = Field(
        16,
        ge=0,
        le=51,
        description="H.264 quality of stored video: 0 is lossless, higher is smaller.",
    )
    generator: str = Field(
        "story",
        description="Generator of the chunks: story, or module:function that loads your own.",
    )
    lease: LeaseConfig = Field(LeaseConfig(), description="Leases of chunks.")
    scaling: ScalingConfig = Field(ScalingConfig(), description="Generator replicas.")
    limits: LimitsConfig = Field(LimitsConfig(), description="Limits of requests.")
