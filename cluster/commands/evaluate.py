"""`filmweaver evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import CommonOptions, Location, suite_name
from cluster.console import out

BASELINES = ("independent", "keyframe_then_animate")


def evaluate(
    common: CommonOptions,
    output: Annotated[
        str,
        typer.Argument(
            help="Where the scorecard and the films go: a folder or a URI.", parser=Location
        ),
    ],
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Model folder written by `train`.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Stories to film, FIRST:LAST (LAST excluded).")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            "--suite",
            help="toyfilms, scenes20x5, a file of stories, or module:Name.",
            parser=suite_name,
        ),
    ] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            "--ablate",
            help="Film only the full method and this ablation or baseline; repeatable: shot_cache, "
            "temporal_cache, augmentation, negatives, independent, keyframe_then_animate.",
        ),
    ] = None,
) -> None:
    """Film a suite of stories with every variant of a model, and measure the films."""
    chosen = [f"model.checkpoint={checkpoint}"] if checkpoint else []
    chosen += [f"evaluation.seeds='{seeds}'"] if seeds else []
    if isinstance(suite, Location):
        chosen += ["evaluation.suite=file", f"evaluation.suite_path='{suite}'"]
    elif suite:
        chosen.append(f"evaluation.suite='{suite}'")
    if ablate:
        names = [name if name in BASELINES else f"without_{name}" for name in ablate]
        chosen.append(f"evaluation.variants=[full, {', '.join(names)}]")
    settings = common.load(*chosen)
    from cluster.ray_start import ray_session
    from fw_model.evaluation.report.table import table_text
    from pipelines.evaluate import run_evaluate
    from pipelines.evaluation.suites import complete_settings
    from pipelines.storage.store import Store

    evaluation = complete_settings(settings.evaluation)
    with ray_session(settings.ray):
        scorecard = run_evaluate(evaluation, settings.model, settings.generation, output)
    out.print(table_text(scorecard), markup=False)
    store = Store(output)
    scores, films = store.address("scorecard.json"), store.address("scorecard.html")
    out.print(f"Scorecard: {scores}, with films: {films}", markup=False)
