"""The whole configuration: one section per part, each defined beside the code that reads it.

A named profile, a YAML file and `a.b=c` overrides are merged in this order and validated once.
Importing this module imports every part, so commands import it when they run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from cluster.ray_start import RayConfig
from fw_model.config import StrictModel, apply_overrides, load_yaml, merge, validate
from fw_model.errors import ConfigError
from fw_model.evaluation.config import EvaluationConfig
from fw_model.generation.request import GenerationConfig
from fw_model.loading.config import ModelConfig
from fw_model.training.config import TrainingConfig
from pipelines.curation.config import CurationConfig
from pipelines.encoding.config import EncodeConfig
from pipelines.evaluation.scene_writer import WriterConfig
from pipelines.pretraining.config import PretrainConfig
from pipelines.toyfilms.config import ToyFilmsConfig
from serve.config import ServingConfig

PROFILES = Path(__file__).parent / "profiles"


class FilmWeaverConfig(StrictModel):
    """Every section of the configuration."""

    model: ModelConfig = Field(ModelConfig(), description="Weights, device and precision.")
    generation: GenerationConfig = Field(GenerationConfig(), description="Sampling and caches.")
    toyfilms: ToyFilmsConfig = Field(ToyFilmsConfig(), description="The procedural toy films.")
    curation: CurationConfig = Field(
        CurationConfig(), description="Turning videos into captioned scenes."
    )
    encode: EncodeConfig = Field(
        EncodeConfig(), description="Turning captioned scenes into latents."
    )
    training: TrainingConfig = Field(TrainingConfig(), description="Fine-tuning.")
    pretrain: PretrainConfig = Field(PretrainConfig(), description="Training of the small models.")
    serving: ServingConfig = Field(ServingConfig(), description="The HTTP server.")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="The scorecard.")
    writer: WriterConfig = Field(WriterConfig(), description="Scenes written by a language model.")
    ray: RayConfig = Field(RayConfig(), description="Where Ray runs.")


def profile_names() -> list[str]:
    """Return the names that `--profile` accepts."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def profile_tree(name: str) -> dict[str, Any]:
    """Return the YAML tree of a packaged profile; ConfigError lists the names if it is unknown."""
    path = PROFILES / f"{name}.yaml"
    if name not in profile_names():
        raise ConfigError(
            f"There is no profile {name!r}; choose one of {', '.join(profile_names())},"
            " or give your own file with --config."
        )
    return load_yaml(path)


def config_tree(
    profile: str, config_file: Path | None = None, overrides: list[str] | None = None
) -> dict[str, Any]:
    """Merge profile, file and overrides, without validating them."""
    tree = profile_tree(profile)
    if config_file is not None:
        tree = merge(tree, load_yaml(config_file))
    tree = apply_overrides(tree, overrides or [])
    refuse_renamed(tree)
    return tree


def load_config(
    profile: str = "tiny", config_file: Path | None = None, overrides: list[str] | None = None
) -> FilmWeaverConfig:
    """Return the validated configuration; ConfigError names the key, the value and the rule."""
    where = f"profile {profile}" + (f" with {config_file}" if config_file else "")
    return validate(FilmWeaverConfig, config_tree(profile, config_file, overrides), where)


RENAMED = {
    "model.codec": "model.vae",
    "pretrain.codec": "pretrain.vae",
    "pretrain.oracle": "pretrain.toy_judge",
    "evaluation.oracle": "evaluation.toy_judge",
}
"""Settings that have another name since 0.2: old -> new."""


def refuse_renamed(tree: dict[str, Any]) -> None:
    """Raise ConfigError if `tree` has a setting under an old name; the message has the new one."""
    for old, new in RENAMED.items():
        section, _, name = old.partition(".")
        if isinstance(tree.get(section), dict) and name in tree[section]:
            raise ConfigError(f"The setting {old} is now called {new}; rename it.")
