"""One evaluation: its settings, its model and where its results go.

Knows nothing about its steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fw_model.evaluation.config import EvaluationConfig
from fw_model.evaluation.judges.toy_judge import PACKAGED_TOY_JUDGE
from fw_model.evaluation.scoring.scorecard import About
from fw_model.evaluation.scoring.story_score import Judges
from fw_model.generation.request import GenerationConfig
from fw_model.loading.config import ModelConfig, PartConfig
from fw_model.loading.folders import TINY, clip_folder, load_record, model_paths, with_whole_paths
from pipelines.evaluation.suites import complete_settings
from pipelines.storage.store import Store


@dataclass(frozen=True)
class EvaluationRun:
    """What every step and every actor of an evaluation gets.

    `model` is the evaluated one. Variants that were trained differently have their own
    checkpoints, but all films are judged with the CLIP of this one.
    """

    config: EvaluationConfig
    model: ModelConfig
    generation: GenerationConfig
    store: Store

    @classmethod
    def prepare(
        cls,
        config: EvaluationConfig,
        model: ModelConfig,
        generation: GenerationConfig,
        output: str | Path,
    ) -> EvaluationRun:
        """Return a run with all paths absolute, because actors work in other folders."""
        store = Store(str(output))
        return cls(complete_settings(config), with_whole_paths(model), generation, store)

    def local_paths(self) -> list[tuple[str, str]]:
        """Return the local files and folders that actors read: (role, path)."""
        config = self.config
        judges = {
            "toy judge": config.toy_judge,
            "judging CLIP": config.clip,
            "aesthetic head": config.aesthetic.head,
            "CLIP of the aesthetic head": config.aesthetic.clip,
            "Inception weights": config.inception.weights,
            "story file": config.suite_path,
        }
        checkpoints = {f"checkpoint of {name}": path for name, path in config.checkpoints.items()}
        named = {**judges, **checkpoints}
        return [*model_paths(self.model), *((role, path) for role, path in named.items() if path)]

    @property
    def toy_judge_folder(self) -> Path:
        """The folder of the toy judge."""
        return Path(self.config.toy_judge) if self.config.toy_judge else PACKAGED_TOY_JUDGE

    @property
    def clip_name(self) -> str | None:
        """What the scorecard calls the CLIP that judges; None where no CLIP can judge.

        The packaged CLIP knows only toy films: it judges other films only if the config names it.
        """
        folder = clip_folder(self.judging_model)
        if folder is None:
            return self.model.embedder.kind
        if folder.resolve() == (TINY / "clip").resolve() and self.config.clip is None:
            return "the packaged CLIP" if self.config.suite == "toyfilms" else None
        return str(folder)

    @property
    def judging_model(self) -> ModelConfig:
        """The evaluated model, with the judging CLIP as its embedder."""
        if self.config.clip is None:
            return self.model
        part = PartConfig(kind="open_clip", path=self.config.clip)
        return self.model.model_copy(update={"embedder": part})

    def about(self, judges: Judges, *, has_truth: bool) -> About:
        """Return what the scorecard says about how it was made."""
        return {
            "toy_judge": judges.toy_judge.card if has_truth else {},
            "clip": self.clip_name,
            "settings": {
                **self.config.model_dump(mode="json"),
                "model": self.model.model_dump(mode="json", exclude_defaults=True),
                "generation": self.generation.model_dump(mode="json", exclude_defaults=True),
                "fps": load_record(self.model).fps,
            },
        }
