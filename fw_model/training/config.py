"""Every setting of a training run.

The settings of DeepSpeed are derived from these, so a batch size is written once. Knows nothing
about models or data.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fw_model.cache.augment import AugmentConfig
from fw_model.cache.context import MODES
from fw_model.config import StrictModel


class ModeWeights(StrictModel):
    """How often each of the four modes is trained, as relative weights."""

    first_shot: float = Field(0.0, ge=0, description="Both caches empty.")
    extend_first_shot: float = Field(0.0, ge=0, description="Temporal cache only.")
    new_shot: float = Field(0.0, ge=0, description="Shot cache only.")
    extend_new_shot: float = Field(0.0, ge=0, description="Both caches.")

    @model_validator(mode="after")
    def _some_weight(self) -> ModeWeights:
        if sum(self.as_tuple()) <= 0:
            raise ValueError("at least one mode needs a weight above 0")
        return self

    def as_tuple(self) -> tuple[float, ...]:
        """Return the weights in the order of MODES."""
        return tuple(float(getattr(self, mode)) for mode in MODES)


class StageConfig(StrictModel):
    """One stretch of the curriculum."""

    name: str = Field("all_modes", min_length=1, description="Name in logs and metrics.")
    steps: int = Field(10_000, ge=0, description="Optimizer steps of this stage.")
    mode_weights: ModeWeights = Field(
        ModeWeights(first_shot=0.1, extend_first_shot=0.2, new_shot=0.35, extend_new_shot=0.35),
        description="How often each mode is trained.",
    )
    chunk_latents: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Latents of a target in this stage; null: the model's chunk. 1 trains on still "
        "pictures, which is cheap and teaches appearance before motion.",
    )


class ObjectiveConfig(StrictModel):
    """Flow matching: which noise levels are trained and how errors are weighted."""

    parameterization: Literal["velocity", "epsilon_equiv"] = Field(
        "velocity", description="epsilon_equiv weights by (1 - sigma)^2: the paper's epsilon loss."
    )
    sigma_mean: float = Field(0.0, description="Mean of sigma before the logistic function.")
    sigma_std: float = Field(1.0, gt=0, description="Spread of sigma before the logistic function.")
    sigma_shift: float = Field(
        3.0, gt=0, description="Timestep shift; generation should use the same."
    )
    channel_weight: tuple[float, ...] | None = Field(
        None, description="Weight of each latent channel's squared error; null: equal weights."
    )


class OptimizerConfig(StrictModel):
    """The optimizer, with linear warm-up."""

    kind: Literal["adamw", "muon"] = Field(
        "adamw",
        description="muon updates the matrices of the blocks with orthogonalised momentum and the "
        "rest with AdamW; it needs fewer steps from scratch (plain engine).",
    )
    muon_rate: float = Field(
        10.0, gt=0, description="Learning rate of Muon as a multiple of AdamW's."
    )
    learning_rate: float = Field(1e-4, gt=0, description="Peak learning rate.")
    betas: tuple[float, float] = Field((0.9, 0.99), description="AdamW moment decays.")
    eps: float = Field(1e-8, gt=0, description="AdamW epsilon.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    warmup_steps: int = Field(100, ge=0, description="Steps of linear warm-up.")
    decay: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="How the learning rate falls after the warm-up."
    )
    decay_start: float = Field(
        0.0, ge=0, lt=1, description="Fraction of all steps after which the decay starts."
    )
    final_fraction: float = Field(
        0.05, ge=0, le=1, description="Last learning rate as a fraction of the peak."
    )


class SamplingConfig(StrictModel):
    """How the plan chooses samples."""

    keyframe_scope: Literal["scene", "video"] = Field(
        "scene", description="Where keyframes for the shot cache come from."
    )
    earlier_fraction: float = Field(
        0.8, ge=0, le=1, description="How often keyframes come only from shots before the target."
    )
    retrieved_fraction: float = Field(
        0.5, ge=0, le=1, description="How often keyframes are the best by CLIP; otherwise random."
    )
    full_bank_fraction: float = Field(
        0.6, ge=0, le=1, description="How often all K slots are filled; otherwise 1 to K - 1."
    )
    aligned_fraction: float = Field(
        0.5, ge=0, le=1, description="How often an extension starts on a chunk border."
    )
    negative_fraction: float = Field(
        0.25, ge=0, le=1, description="Probability that a slot holds another video's keyframe."
    )
    hard_negative_fraction: float = Field(
        0.5, ge=0, le=1, description="Share of negatives that match the prompt best among 32."
    )
    text_dropout: float = Field(
        0.1, ge=0, lt=1, description="How often the target's prompt is empty, for guidance."
    )


class LoraSettings(StrictModel):
    """Low-rank adapters instead of a full fine-tune; added patch embeddings are trained in full."""

    rank: int = Field(64, ge=1, description="Rank of the adapters.")
    alpha: int = Field(64, ge=1, description="Scale of the adapters.")
    targets: tuple[str, ...] = Field(
        ("to_q", "to_k", "to_v", "to_out.0", "net.0.proj", "net.2"),
        min_length=1,
        description="Names of the linear layers that get an adapter.",
    )


class EmaConfig(StrictModel):
    """Exponential moving average of the weights, which is what gets exported."""

    decay: float = Field(0.999, ge=0, lt=1, description="Decay per step; 0 exports raw weights.")
    every: int = Field(1, ge=1, description="Steps between updates; the decay is adjusted for it.")


class CheckpointConfig(StrictModel):
    """When the state is saved for resuming."""

    every_steps: int = Field(500, ge=1, description="Steps between checkpoints.")
    every_minutes: float = Field(15.0, gt=0, description="Minutes between checkpoints, at most.")
    keep: int = Field(2, ge=1, description="How many of the latest checkpoints are kept.")


class TrainingConfig(StrictModel):
    """A training run: what is learned, from which samples, by which engine."""

    seed: int = Field(0, ge=0, description="Seed of the plan and of all random numbers.")
    stages: tuple[StageConfig, ...] = Field(
        (
            StageConfig(
                name="temporal", mode_weights=ModeWeights(first_shot=0.3, extend_first_shot=0.7)
            ),
            StageConfig(),
        ),
        min_length=1,
        description="The curriculum, in order.",
    )
    sampling: SamplingConfig = Field(SamplingConfig(), description="How samples are chosen.")
    objective: ObjectiveConfig = Field(ObjectiveConfig(), description="The loss.")
    augment: AugmentConfig = Field(AugmentConfig(), description="Noise on the caches.")
    group_size: int = Field(
        8,
        ge=1,
        description="Samples in a group, over all workers; they share mode and context shape.",
    )
    groups_per_step: int = Field(
        1, ge=1, description="Groups in one optimizer step; each has its own mode."
    )
    micro_batch: int = Field(
        64, ge=1, description="Samples that a worker computes at once; more are accumulated."
    )
    noises_per_context: int = Field(
        1, ge=1, le=64, description="Noise samples per target that share one pass of its context."
    )
    optimizer: OptimizerConfig = Field(
        OptimizerConfig(), description="The optimizer and its schedule."
    )
    ema: EmaConfig = Field(EmaConfig(), description="Moving average of the weights.")
    lora: LoraSettings | None = Field(None, description="Train adapters instead of all weights.")
    num_layers: int | None = Field(
        None,
        ge=1,
        description="First deepen the transformer to this many layers: new ones are spread evenly "
        "among its own and contribute nothing until they are trained.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16 uses autocast; weights stay float32."
    )
    compile: bool = Field(False, description="Compile each transformer block (plain engine).")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass to save memory."
    )
    checkpoint: CheckpointConfig = Field(CheckpointConfig(), description="Saving and resuming.")
    export_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "bfloat16", description="Number format of the exported weights."
    )
    log_every: int = Field(10, ge=1, description="Steps between log lines.")
    allow_plan_change: bool = Field(
        False, description="Resume even if data or sampling settings changed."
    )
    engine: Literal["plain", "deepspeed"] = Field(
        "plain", description="plain: torch alone; deepspeed: ZeRO under Ray Train."
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(2, description="What DeepSpeed shards over workers.")
    num_workers: int = Field(
        0, ge=0, description="Ray Train workers; 0 trains in this process (plain engine)."
    )
    cpus_per_worker: float = Field(1.0, gt=0, description="CPU cores Ray reserves per worker.")
    use_gpu: bool = Field(False, description="Give each worker a GPU.")
    feed: Literal["ray_data", "local"] = Field(
        "ray_data", description="Stream batches with Ray Data, or let each worker read its own."
    )
    max_failures: int = Field(
        2, ge=-1, description="Worker crashes after which training resumes; -1: no limit."
    )

    @model_validator(mode="after")
    def _engine_fits(self) -> TrainingConfig:
        if self.num_steps == 0:
            raise ValueError("all stages together need at least one step")
        if self.num_workers > 1 and self.group_size % self.num_workers:
            raise ValueError(
                f"group_size {self.group_size} must be a multiple of num_workers {self.num_workers}"
            )
        if self.engine == "deepspeed" and self.num_workers == 0:
            raise ValueError("engine deepspeed needs num_workers of at least 1")
        if self.engine == "deepspeed" and self.optimizer.kind == "muon":
            raise ValueError("optimizer.kind muon needs engine plain: ZeRO splits matrices")
        return self

    @property
    def num_steps(self) -> int:
        """Optimizer steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> StageConfig:
        """Return the stage that `step` (from 0) belongs to."""
        end = 0
        for stage in self.stages:
            end += stage.steps
            if step < end:
                return stage
        raise IndexError(f"step {step} is past the end of the plan ({end} steps)")
