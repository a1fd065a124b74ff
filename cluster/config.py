"""The whole configuration: one section a part, each defined beside the code that reads it.

A tree is laid together from a named profile, a YAML file and `a.b=c` overrides, in this order,
then validated once. Importing this module imports every part, so commands import it late.
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
from pipelines.encode import EncodeConfig
from pipelines.evaluation.scene_writer import WriterConfig
from pipelines.pretraining.config import PretrainConfig
from pipelines.toyfilms.config import ToyFilmsConfig
from serve.config import ServingConfig

PROFILES = Path(__file__).parent / "profiles"


class FilmWeaverConfig(StrictModel):
    """Every section of the configuration."""

    model: ModelConfig = Field(ModelConfig(), description="Which weights, where, how precise.")
    generation: GenerationConfig = Field(GenerationConfig(), description="Sampling and caches.")
    toyfilms: ToyFilmsConfig = Field(ToyFilmsConfig(), description="Procedural films.")
    curation: CurationConfig = Field(CurationConfig(), description="Videos to captioned scenes.")
    encode: EncodeConfig = Field(EncodeConfig(), description="Captioned scenes to latents.")
    training: TrainingConfig = Field(TrainingConfig(), description="Fine-tuning.")
    pretrain: PretrainConfig = Field(PretrainConfig(), description="Small VAE and CLIP.")
    serving: ServingConfig = Field(ServingConfig(), description="The HTTP server.")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="The scorecard.")
    writer: WriterConfig = Field(WriterConfig(), description="Scenes by a language model.")
    ray: RayConfig = Field(RayConfig(), description="The Ray that does the work.")


def profile_names() -> list[str]:
    """Names that `--profile` takes."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def profile_tree(name: str) -> dict[str, Any]:
    """The YAML tree of a packaged profile; ConfigError lists the names there are."""
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
    """Profile, then file, then overrides; not yet validated."""
    tree = profile_tree(profile)
    if config_file is not None:
        tree = merge(tree, load_yaml(config_file))
    tree = apply_overrides(tree, overrides or [])
    refuse_renamed(tree)
    return tree


def load_config(
    profile: str = "tiny", config_file: Path | None = None, overrides: list[str] | None = None
) -> FilmWeaverConfig:
    """The validated configuration; ConfigError names the key, the value and the rule."""
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
