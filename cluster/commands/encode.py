"""`filmweaver encode`."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.commands.options import CommonOptions, Location
from cluster.console import out


def encode(
    common: CommonOptions,
    curated: Annotated[str, typer.Argument(help="OUTPUT of `filmweaver curate`.", parser=Location)],
    output: Annotated[
        str, typer.Argument(help="Where the dataset goes: a folder or a URI.", parser=Location)
    ],
) -> None:
    """Encode curated scenes as latents and embeddings for training."""
    settings = common.load()
    from cluster.ray_start import ray_session
    from pipelines.encode import run_encode

    with ray_session(settings.ray):
        summary = run_encode(settings.encode, settings.model, curated, output)
    out.print(
        f"{summary.videos} videos: {summary.encoded} encoded, {summary.empty} empty,"
        f" {summary.failed} failed; {summary.shots} shots. Dataset: {output}",
        markup=False,
    )
    if summary.failed:
        out.print("Run the same command again to retry the failed videos.")
