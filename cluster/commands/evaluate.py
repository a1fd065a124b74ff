"""`filmweaver evaluate`, and `write-scenes`, which makes stories for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import (
    Address,
    ConfigFile,
    Overrides,
    Profile,
    folder,
    is_suite_file,
    load,
    local_path,
    path_or_uri,
)
from cluster.console import meter, out
from cluster.submit import is_job_server, submit


def evaluate(
    output: Annotated[Path, folder("Where scorecard, films and report go.")],
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Model folder left by `train`.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option("--seeds", help="Stories to film: FIRST:LAST, LAST left out.")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option("--suite", help="toyfilms, scenes20x5, a file of stories, or module:Name."),
    ] = None,
    ablate: Annotated[
        list[str] | None,
        typer.Option(
            "--ablate",
            help="Film the full method and this ablation or rival alone; repeatable: shot_cache, "
            "temporal_cache, augmentation, negatives, independent, keyframe_then_animate.",
        ),
    ] = None,
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Film a suite of stories with every variant of a model, and measure the films."""
    words: list[str | Path] = ["evaluate", output]
    words += ["--checkpoint", checkpoint] if checkpoint else []
    chosen = list(overrides or [])
    chosen += [f"evaluation.seeds='{seeds}'"] if seeds else []
    if suite and is_suite_file(suite):
        words += ["--suite", path_or_uri(suite)]
        chosen += ["evaluation.suite=file", f"evaluation.suite_path={json.dumps(suite)}"]
    elif suite:
        chosen.append(f"evaluation.suite='{suite}'")
    if ablate:
        rivals = ("independent", "keyframe_then_animate")
        names = [name if name in rivals else f"without_{name}" for name in ablate]
        chosen.append(f"evaluation.variants=[full, {', '.join(names)}]")
    if is_job_server(address):
        return submit(address, words, profile, config, chosen)
    chosen += [f"model.checkpoint={checkpoint}"] if checkpoint else []
    settings = load(profile, config, chosen, address)
    from cluster.ray_start import ray_session
    from fw_model.evaluation.scoring.scorecard import table_text
    from pipelines.evaluate import run_evaluate
    from pipelines.evaluation.suites import settled

    evaluation = settled(settings.evaluation)
    with ray_session(settings.ray):
        scorecard = run_evaluate(evaluation, settings.model, settings.generation, output)
    out.print(table_text(scorecard), markup=False)
    out.print(f"Scorecard: {output / 'scorecard.json'}, with films: {output / 'scorecard.html'}")


def write_scenes(
    output: Annotated[
        Path, typer.Argument(help="Scene file (JSON); scenes in it are kept.", parser=local_path)
    ],
    num_scenes: Annotated[
        int | None, typer.Option("--num-scenes", min=1, help="Scenes that OUTPUT shall hold.")
    ] = None,
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Have a language model write scenes for `evaluate --suite OUTPUT`."""
    chosen = [*(overrides or []), *([f"writer.num_scenes={num_scenes}"] if num_scenes else [])]
    if is_job_server(address):
        return submit(address, ["write-scenes", output], profile, config, chosen)
    settings = load(profile, config, chosen, address)
    from pipelines.evaluation.scene_writer import run_write_scenes

    with meter("scenes", settings.writer.num_scenes) as progress:
        summary = run_write_scenes(settings.writer, output, on_progress=progress.update)
    out.print(
        f"{summary.kept} scenes kept, {summary.written} written, {len(summary.left_out)} left out;"
        f" {summary.usage.requests} requests, {summary.usage.cost_usd:.2f} USD. Scenes: {output}",
        markup=False,
    )
    for fault in summary.left_out:
        out.print(f"Left out, {fault}", markup=False)
    if summary.left_out:
        out.print("The same command asks again for what is missing.")
