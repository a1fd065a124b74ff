"""Loads the judges of an evaluation and says which ones they are.

Knows nothing about how films are made.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from fw_model.evaluation.judges.toy_judge import ToyJudge
from fw_model.evaluation.judges.weights import weights_digest
from fw_model.evaluation.metrics.aesthetic import AestheticPredictor
from fw_model.evaluation.metrics.inception import InceptionJudge
from fw_model.evaluation.scoring.story_score import Judges
from fw_model.files.fingerprint import fingerprint_folders
from fw_model.loading.fingerprints import part_fingerprint
from fw_model.loading.load import load_embedder
from pipelines.evaluation.character_finders import FinderContext, make_finder
from pipelines.evaluation.run import EvaluationRun


def load_judges(run: EvaluationRun, device: torch.device | str) -> Judges:
    """Load every judge that the config names; CheckpointError or ConfigError says which fails."""
    config = run.config
    share = 1 / config.num_actors
    return Judges(
        ToyJudge.load(run.toy_judge_folder),
        None if run.clip_name is None else load_embedder(run.judging_model),
        make_finder(FinderContext(config.characters, run.store, share=share)),
        AestheticPredictor.load(config.aesthetic, device=device),
        InceptionJudge.load(config.inception, device=device),
    )


def judges_identity(run: EvaluationRun, judges: Judges) -> str:
    """Identify the judges, except the toy judge, by their settings and their weights' content.

    It does not matter where files are or how an endpoint is reached.
    """
    aesthetic, inception = run.config.aesthetic, run.config.inception
    parts: dict[str, str | list[str | int]] = {}
    if judges.embedder is not None:
        parts["clip"] = part_fingerprint(run.judging_model, ("clip",))
    if aesthetic.head is not None and aesthetic.clip is not None:
        clip = fingerprint_folders("", [Path(aesthetic.clip).expanduser()])
        parts["aesthetic"] = [weights_digest(aesthetic.head), clip, aesthetic.frames_per_shot]
    if inception.weights is not None:
        parts["inception"] = [weights_digest(inception.weights), inception.frames_per_shot]
    if judges.finder is not None:
        parts["characters"] = [run.config.characters.kind, judges.finder.version]
    return json.dumps(parts)
