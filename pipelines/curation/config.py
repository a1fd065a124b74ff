"""Settings of curation, one section per stage.

Changing `detector`, `keyframes`, or the size and damage limits in `decode` decodes all videos
again. Changing `perception`, or setting the first threshold that needs one, reads all keyframes
again. Changing `scenes` or `filters` only selects and groups shots again; changing `captioner` or
`validation` captions scenes again. The other settings do not affect the rows.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from fw_model.config import StrictModel
from fw_model.endpoint import EndpointConfig
from fw_model.schemas.curated import CaptionReason, VideoReason


class DetectorConfig(StrictModel):
    """How shots are found."""

    kind: str = Field(
        "learned",
        description="learned, adaptive, content_histogram, ensemble, onnx, transnet, or "
        "module:Name.",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="Settings of the chosen detector, by name."
    )
    min_shot_frames: int = Field(
        2, ge=1, le=1000, description="Two cuts closer than this many frames count as one."
    )


class KeyframeConfig(StrictModel):
    """Frames that represent a shot."""

    per_shot: int = Field(3, ge=1, le=16, description="Keyframes per shot, evenly spread.")
    max_side_px: int = Field(512, ge=32, le=4096, description="Longest side of a keyframe.")
    every_s: float = Field(0.5, gt=0, le=10, description="Seconds between keyframe candidates.")
    crop_bars: bool = Field(
        True,
        description="Crop black bars off keyframes and what is measured of them, and store the "
        "crop with each shot, for encoding and shot files.",
    )
    jpeg_quality: int = Field(88, ge=1, le=95, description="JPEG quality of stored keyframes.")


class PerceptionConfig(StrictModel):
    """What is looked for in keyframes besides CLIP. Each needs its extra, such as
    `pip install "filmweaver[faces]"`; nothing is downloaded at run time."""

    faces: str | None = Field(
        None,
        description="Face detector: centerface (extra faces) or module:Name; null: none, unless "
        "filters.max_faces is set.",
    )
    text: str | None = Field(
        None,
        description="Text reader: rapidocr (extra text) or module:Name; null: none, unless "
        "filters.max_subtitle_area is set.",
    )
    nsfw: str | None = Field(
        None,
        description="Scorer of explicit content: open_nsfw (extra nsfw) or module:Name; null: "
        "none, unless filters.max_nsfw is set.",
    )


class DecodeConfig(StrictModel):
    """Limits on decoding. Each video is decoded once, in a child process."""

    range_s: float | None = Field(
        600.0,
        ge=5,
        description="A video longer than twice this is decoded in parallel ranges of about this "
        "length, seconds; null decodes every video in one go.",
    )
    memory_limit_mb: int = Field(
        4096, ge=512, description="Address space of a decoding child process, MiB."
    )
    deadline_s: float = Field(
        3600.0, gt=0, description="Longest time for one video or one range of it, seconds."
    )
    stall_s: float = Field(120.0, gt=0, description="Longest time without a new frame, seconds.")
    max_pixels: int = Field(
        8192 * 8192, ge=64, description="Largest frame (width x height) that is decoded."
    )
    max_error_ratio: float = Field(
        0.05, ge=0, le=1, description="Largest share of damaged packets in a kept video."
    )
    max_missing_ratio: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Largest share of its stated length that a kept video may be missing.",
    )
    videos_per_child: int = Field(
        200, ge=1, description="A decoding child process is replaced after this many videos."
    )


class SceneConfig(StrictModel):
    """Which shots belong together."""

    similarity_threshold: float = Field(
        0.75,
        ge=-1,
        le=1,
        description="Least similarity of a shot before a boundary to one after it at which the "
        "scene goes on.",
    )
    colour_weight: float = Field(
        0.7, ge=0, le=1,
        description="Weight of the colour overlap in that similarity; the rest is CLIP's. Lower "
        "it for a CLIP that was trained on footage like yours.",
    )  # fmt: skip
    window: int = Field(
        3, ge=1, le=100, description="How many shots apart two shots may be to be compared."
    )
    max_shots: int = Field(32, ge=1, le=1000, description="Most shots in a scene.")
    max_duration_s: float = Field(180.0, gt=0, description="Longest scene, seconds.")
    min_shots: int = Field(1, ge=1, le=100, description="Fewest shots in a scene that is kept.")


class FilterConfig(StrictModel):
    """Which shots are worth keeping; null switches a filter off."""

    min_shot_s: float | None = Field(0.5, ge=0, description="Shortest kept shot, seconds.")
    max_shot_s: float | None = Field(120.0, gt=0, description="Longest kept shot, seconds.")
    min_side_px: int | None = Field(
        32, ge=1, description="Shortest frame side of a kept shot, pixels."
    )
    min_luma: float | None = Field(
        12.0, ge=0, le=255, description="Lowest mean luma of a kept shot."
    )
    min_contrast: float | None = Field(
        4.0, ge=0, le=128, description="Lowest contrast of a kept shot."
    )
    min_motion: float | None = Field(
        0.02, ge=0, le=255, description="Lowest mean luma change per frame of a kept shot."
    )
    max_text_area: float | None = Field(
        0.35,
        ge=0,
        le=1,
        description="Largest share of the frame that text may cover in a kept shot: as read, if "
        "there is a text reader, else as estimated from strokes.",
    )
    max_subtitle_area: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Largest share of the frame that text in its lowest third may cover in a kept "
        "shot; two lines of subtitles cover about 0.06.",
    )
    max_faces: int | None = Field(
        None, ge=0, description="Most faces in a keyframe of a kept shot."
    )
    max_nsfw: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Largest probability that a keyframe of a kept shot is explicit; 0.2 is "
        "strict, 0.8 lax.",
    )
    aesthetic_head: str | None = Field(
        None,
        description="File of LAION's aesthetic head (v1 or v2) for the CLIP in model.embedder, "
        ".pth or .safetensors; null: not measured.",
    )
    min_aesthetic: float | None = Field(
        None, description="Lowest aesthetic score of a kept shot, on a scale of about 1 to 10."
    )
    duplicate_distance_bits: int | None = Field(
        6,
        ge=0,
        le=15,
        description="Largest distance between fingerprints of duplicates, in bits of 256.",
    )
    duplicate_similarity: float = Field(
        0.97, ge=0, le=1, description="Smallest cosine between embeddings of duplicates."
    )

    @model_validator(mode="after")
    def _a_threshold_has_its_head(self) -> FilterConfig:
        if self.min_aesthetic is not None and self.aesthetic_head is None:
            raise ValueError("min_aesthetic needs aesthetic_head, the weights that score shots")
        return self


class EngineConfig(StrictModel):
    """A model that runs on the cluster itself, with ray.data.llm and vLLM (ray_llm)."""

    engine_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="Settings of vLLM, such as max_model_len or tensor_parallel_size.",
    )
    accelerator_type: str | None = Field(
        None, description="GPU that the engines run on, such as H100; null: any."
    )
    replicas: int = Field(1, ge=1, le=1024, description="Most engines that run at once.")
    batch_size: int = Field(32, ge=1, le=4096, description="Questions per batch.")


class CaptionerConfig(EndpointConfig):
    """Which captioner describes the scenes. Addresses, limits and prices apply only to openai."""

    kind: str = Field(
        "offline",
        description="offline, sidecar, openai, ray_llm, or module:Name of your own captioner.",
    )
    vocabulary: str | None = Field(
        None, description="YAML file of tags for the offline captioner; null: the packaged one."
    )
    model: str = Field(
        "default",
        description="Model name sent to the endpoint (openai); name or path of a model (ray_llm).",
    )
    prompt: str | None = Field(
        None, description="File with the instructions for captions; null: the packaged one."
    )
    engine: EngineConfig = Field(
        default_factory=EngineConfig, description="Model on the cluster itself (ray_llm)."
    )
    concurrency: int = Field(8, ge=1, le=1024, description="Requests in flight per actor.")
    budget_usd: float | None = Field(
        None,
        ge=0,
        description="Most that all runs on this output together may spend, USD; further scenes are "
        "rejected. Null: no limit.",
    )
    tokens_per_image: int = Field(
        258, ge=1, description="Most input tokens that the endpoint counts for one image."
    )


class ValidationConfig(StrictModel):
    """What a caption must satisfy."""

    min_characters: int = Field(8, ge=1, description="Shortest text of a shot, characters.")
    max_characters: int = Field(2000, ge=16, description="Longest text of a shot, characters.")
    max_entities: int = Field(16, ge=0, description="Most entities in a scene.")
    max_people: int | None = Field(
        3,
        ge=0,
        description="Most people in a shot, as the captioner counts them (openai, ray_llm); a "
        "scene with more is rejected. Null: not checked.",
    )
    min_own_rank_margin: float | None = Field(
        0.02,
        ge=0,
        le=2,
        description="A text by a model fails if it matches the keyframes of another shot of the "
        "scene better than its own shot's by more than this (CLIP cosine). Null: not checked.",
    )
    same_pictures_cosine: float = Field(
        0.9,
        ge=-1,
        le=1,
        description="Shots whose keyframes are at least this similar (CLIP cosine) are taken to "
        "show the same: their texts are not compared, and their characters should have the same "
        "ids.",
    )
    verdict: bool = Field(
        False,
        description="Ask the model whether its captions fit the keyframes (openai, ray_llm). "
        "Doubles the price.",
    )
    verdict_prompt: str | None = Field(
        None, description="File with the instructions for verdicts; null: the packaged one."
    )
    refinements: int = Field(
        1, ge=0, le=3, description="How often a caption that fails is requested again."
    )


class ResourceConfig(StrictModel):
    """How much of the cluster each step uses. Does not affect the rows."""

    analyze_cpus: float = Field(
        0.875,
        gt=0,
        description="CPUs that a decoding actor reserves; below 1, so that embed_cpus fit beside "
        "one actor per core.",
    )
    analyze_actors: int | None = Field(
        None, ge=1, description="Most decoding actors; null: as many as the cluster has room for."
    )
    children_per_long_video: int = Field(
        4, ge=2, le=256, description="Most ranges of a long video to decode at the same time."
    )
    embed_cpus: float = Field(0.125, ge=0, description="CPUs that an embedding actor reserves.")
    embed_gpus: float = Field(
        0.0, ge=0, description="GPUs that an embedding actor reserves; may be a fraction."
    )
    embed_actors: int = Field(1, ge=1, description="Most embedding actors.")
    caption_cpus: float = Field(0.25, ge=0, description="CPUs that a captioning actor reserves.")
    caption_gpus: float = Field(
        0.0, ge=0, description="GPUs that a captioning actor reserves; may be a fraction."
    )
    caption_actors: int = Field(1, ge=1, description="Most captioning actors.")
    videos_per_commit: int = Field(
        32, ge=1, le=4096, description="Most videos that are committed together."
    )
    seconds_per_commit: float = Field(
        30.0, ge=0, description="Decoded videos are committed at least this often, seconds."
    )
    scenes_per_commit: int = Field(32, ge=1, le=4096, description="Scenes committed together.")


class CurationConfig(StrictModel):
    """Source videos to captioned multi-shot scenes."""

    source: str = Field(
        "", description="Folder, video or manifest (.txt, .csv, .jsonl, .parquet), path or URI."
    )
    output: str = Field("", description="Output folder, path or URI.")
    extensions: list[str] = Field(
        default_factory=lambda: [
            "mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "mts", "m2ts", "mpg", "mpeg",
            "flv", "wmv", "ogv", "3gp", "mxf", "y4m", "gif",
        ],
        description="File name extensions that count as videos in a folder.",
    )  # fmt: skip
    recursive: bool = Field(True, description="Whether to search subfolders of the source.")
    limit: int | None = Field(
        None, ge=1, description="Use only this many videos, in order of address; null: all."
    )
    retry_quarantined: list[VideoReason | Literal["all"]] = Field(
        default_factory=list,
        description="Try videos with these quarantine reasons again; all: any.",
    )
    retry_rejected: list[CaptionReason | Literal["all"]] = Field(
        default_factory=list,
        description="Caption scenes with these rejection reasons again; all: any.",
    )
    cut: Literal["none", "copy", "transcode"] = Field(
        "none",
        description="Files of kept shots: none; copy (packets copied where that is exact, encoded "
        "otherwise); transcode (all encoded: H.264, without sound).",
    )
    decode: DecodeConfig = Field(default_factory=DecodeConfig, description="Decoding limits.")
    detector: DetectorConfig = Field(default_factory=DetectorConfig, description="Shot detector.")
    keyframes: KeyframeConfig = Field(default_factory=KeyframeConfig, description="Keyframes.")
    perception: PerceptionConfig = Field(
        default_factory=PerceptionConfig, description="Faces, text and explicit content."
    )
    scenes: SceneConfig = Field(default_factory=SceneConfig, description="Scene clustering.")
    filters: FilterConfig = Field(default_factory=FilterConfig, description="Shot filters.")
    captioner: CaptionerConfig = Field(default_factory=CaptionerConfig, description="Captioner.")
    validation: ValidationConfig = Field(
        default_factory=ValidationConfig, description="Caption checks."
    )
    resources: ResourceConfig = Field(
        default_factory=ResourceConfig, description="Use of the cluster."
    )
