"""Settings of `filmweaver evaluate`: which stories, which variants of the model, how many."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from fw_model.config import StrictModel
from fw_model.errors import ConfigError
from fw_model.evaluation.judges.config import AestheticConfig, CharactersConfig, InceptionConfig
from fw_model.evaluation.variants import VARIANTS

HELD_OUT_SEEDS = "1000000:1000010"
"""For suites that make a story from any seed: these seeds are not used in training."""

SUITE_SEEDS = {"toyfilms": HELD_OUT_SEEDS, "scenes20x5": "0:20"}
"""The stories of a suite that are filmed if `seeds` is null."""

_CACHE_VARIANTS = tuple(name for name in VARIANTS if not VARIANTS[name].needs_checkpoint)


class EvaluationConfig(StrictModel):
    """What is measured. The result of a story depends on its seed, not on the other stories."""

    suite: str = Field(
        "toyfilms",
        description="toyfilms, scenes20x5, file (the stories of suite_path), or module:Name for "
        "your own suite.",
    )
    suite_path: str | None = Field(
        None,
        description="File of stories for suite: file, in a format of "
        "pipelines/evaluation/suite_files.py.",
    )
    seeds: str | None = Field(
        None,
        description="Stories to film, FIRST:LAST (LAST excluded). Null: all stories of a written "
        "suite; 1000000:1000010 (held out from training) of other suites.",
    )
    shots_per_story: int = Field(
        5, ge=1, le=64, description="Shots in a story; written stories are cut to this number."
    )
    num_chunks: int = Field(2, ge=1, le=3600, description="Chunks per shot.")
    variants: tuple[str, ...] = Field(
        _CACHE_VARIANTS, description="Variants to film; the others are null in the scorecard."
    )
    checkpoints: dict[str, str] = Field(
        {},
        description="Model folders of the variants that need their own training "
        "(without_augmentation, without_negatives).",
    )
    toy_judge: str | None = Field(
        None, description="Folder of a toy judge; null: the packaged one."
    )
    clip: str | None = Field(
        None,
        description="open_clip folder of the CLIP that judges consistency and alignment of all "
        "variants; null: that of the evaluated model. The packaged CLIP knows only toy films, so "
        "it judges other suites only if it is set here.",
    )
    aesthetic: AestheticConfig = Field(
        AestheticConfig(), description="Weights of the aesthetic score."
    )
    inception: InceptionConfig = Field(
        InceptionConfig(), description="Weights of the Inception Score."
    )
    characters: CharactersConfig = Field(
        CharactersConfig(), description="What finds the characters in films."
    )
    num_actors: int = Field(2, ge=1, description="Stories filmed at the same time.")
    cpus_per_actor: float = Field(1.0, ge=0, description="Logical CPUs per actor.")
    gpus_per_actor: float = Field(0.0, ge=0, description="GPUs per actor; may be a fraction.")
    num_bootstrap: int = Field(
        2000, ge=100, le=100_000, description="Resamplings for a 95 % interval."
    )
    films_in_report: int = Field(6, ge=0, le=200, description="Stories shown in scorecard.html.")

    @field_validator("seeds")
    @classmethod
    def _seeds_are_a_range(cls, seeds: str | None) -> str | None:
        if seeds is None:
            return None
        first, colon, last = seeds.partition(":")
        if not (colon and first.isdecimal() and last.isdecimal() and int(first) < int(last)):
            raise ValueError("seeds must be FIRST:LAST with FIRST below LAST")
        return seeds

    @model_validator(mode="after")
    def _a_file_goes_with_its_suite(self) -> Self:
        if (self.suite == "file") != (self.suite_path is not None):
            raise ValueError(
                "suite: file and suite_path go together, "
                f"not suite {self.suite!r} with suite_path {self.suite_path!r}"
            )
        return self

    @model_validator(mode="after")
    def _variants_are_known(self) -> Self:
        for name in (*self.variants, *self.checkpoints):
            if name not in VARIANTS:
                raise ValueError(f"unknown variant {name!r}; choose from {', '.join(VARIANTS)}")
        if not self.variants or len(set(self.variants)) < len(self.variants):
            raise ValueError("name at least one variant, and each only once")
        for name in self.variants:
            if VARIANTS[name].needs_checkpoint and name not in self.checkpoints:
                raise ValueError(f"variant {name!r} needs a model folder: set checkpoints.{name}")
        return self

    @property
    def story_seeds(self) -> range:
        """The seeds as numbers; ConfigError if they are not set for a suite in a file.

        `pipelines.evaluation.suites.complete_settings` counts the stories in that file.
        """
        seeds = self.seeds
        if seeds is None and self.suite == "file":
            raise ConfigError(
                f"evaluation.seeds is not set for {self.suite_path}; give it as FIRST:LAST."
            )
        first, _, last = (seeds or SUITE_SEEDS.get(self.suite, HELD_OUT_SEEDS)).partition(":")
        return range(int(first), int(last))
