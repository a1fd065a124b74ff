"""`filmweaver write-scenes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import CommonOptions, local_path
from cluster.console import meter, out


def write_scenes(
    common: CommonOptions,
    output: Annotated[
        Path,
        typer.Argument(help="Scene file (JSON); the scenes in it are kept.", parser=local_path),
    ],
    num_scenes: Annotated[
        int | None, typer.Option("--num-scenes", min=1, help="How many scenes OUTPUT should hold.")
    ] = None,
) -> None:
    """Have a language model write scenes for `evaluate --suite OUTPUT`."""
    settings = common.load(*([f"writer.num_scenes={num_scenes}"] if num_scenes else []))
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
        out.print("Run the same command again to ask for the missing scenes.")
