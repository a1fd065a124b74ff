"""The judges that `filmweaver evaluate` brings in from outside: weights given by path, an endpoint.

Knows nothing of how films are made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fw_model.embedders.base import Embedder
from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.judges.toy_judge import ToyJudge
from fw_model.evaluation.judges.weights import weights_digest
from fw_model.evaluation.metrics.aesthetic import AestheticPredictor
from fw_model.evaluation.metrics.characters import CharacterFinder
from fw_model.evaluation.metrics.inception import InceptionJudge
from fw_model.evaluation.scoring.story_score import Judges
from fw_model.files.fingerprint import fingerprint_folders
from fw_model.loading.config import ModelConfig, PartConfig
from fw_model.loading.fingerprints import part_fingerprint
from fw_model.loading.folders import TINY, clip_folder
from fw_model.loading.load import load_embedder
from pipelines.evaluation.character_finders import FinderContext, make_finder
from pipelines.storage.store import Store


@dataclass(frozen=True)
class OutsideJudges:
    """The CLIP that judges, and those that the config names, loaded; None where it does not."""

    embedder: Embedder | None
    finder: CharacterFinder | None
    aesthetic: AestheticPredictor | None
    inception: InceptionJudge | None

    @classmethod
    def load(
        cls, config: EvaluationConfig, model: ModelConfig, store: Store, device: torch.device | str
    ) -> OutsideJudges:
        """Load them; CheckpointError or ConfigError says which cannot be had.

        `model` is the one that is evaluated, not the variants trained otherwise: all films are
        judged by one CLIP.
        """
        context = FinderContext(config.characters, store, share=1 / config.num_actors)
        return cls(
            None if clip_of(config, model) is None else load_embedder(judging_clip(config, model)),
            make_finder(context),
            AestheticPredictor.load(config.aesthetic, device=device),
            InceptionJudge.load(config.inception, device=device),
        )

    def joined(self, toy_judge: ToyJudge) -> Judges:
        """Return all who judge a film."""
        return Judges(toy_judge, self.embedder, self.finder, self.aesthetic, self.inception)


def clip_of(config: EvaluationConfig, model: ModelConfig) -> str | None:
    """Return what the CLIP that judges is called in the scorecard; None where none can.

    The packaged CLIP knows toy films alone: of other films it judges only those who name it.
    """
    folder = clip_folder(judging_clip(config, model))
    if folder is None:
        return model.embedder.kind
    if folder.resolve() == (TINY / "clip").resolve() and config.clip is None:
        return "the packaged CLIP" if config.suite == "toyfilms" else None
    return str(folder)


def judging_clip(config: EvaluationConfig, model: ModelConfig) -> ModelConfig:
    """Return `model` with the CLIP that judges as its own."""
    if config.clip is None:
        return model
    return model.model_copy(update={"embedder": PartConfig(kind="open_clip", path=config.clip)})


def checked_judges(config: EvaluationConfig, model: ModelConfig, store: Store) -> str:
    """Load every judge once and return what they are: contents of weights, and settings.

    Hours of filming must not end at a file that does not load. Where a result rests on it goes in;
    where files lie and how an endpoint is reached does not.
    """
    judges = OutsideJudges.load(config, model, store, "cpu")
    facts: dict[str, Any] = {}
    if judges.embedder is not None:
        facts["clip"] = part_fingerprint(judging_clip(config, model), ("clip",))
    aesthetic, inception = config.aesthetic, config.inception
    if aesthetic.head is not None and aesthetic.clip is not None:
        clip = fingerprint_folders("", [Path(aesthetic.clip).expanduser()])
        facts["aesthetic"] = [weights_digest(aesthetic.head), clip, aesthetic.frames_per_shot]
    if inception.weights is not None:
        facts["inception"] = [weights_digest(inception.weights), inception.frames_per_shot]
    if judges.finder is not None:
        facts["characters"] = [config.characters.kind, judges.finder.version]
    return json.dumps(facts)
