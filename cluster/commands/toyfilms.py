"""`filmweaver toyfilms`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import CommonOptions, folder
from cluster.console import out


def toyfilms(
    common: CommonOptions,
    output: Annotated[Path, folder("Where the films and their truth go.")],
    encoded: Annotated[
        bool,
        typer.Option(
            "--encoded",
            help="Render straight into a training dataset, without video files or curation, on "
            "this machine's cores and GPU.",
        ),
    ] = False,
) -> None:
    """Render procedural films whose truth is known."""
    settings = common.load()
    if encoded:
        from pipelines.toyfilms.encoded import RenderJob, encode_films

        counts = encode_films(RenderJob(settings.toyfilms, settings.encode, settings.model, output))
        out.print(f"{counts['shots']} shots of {counts['sources']} films: {output}")
        return
    from cluster.ray_start import ray_session
    from pipelines.toyfilms.write import render_films_on_ray

    with ray_session(settings.ray):
        films = render_films_on_ray(settings.toyfilms, output)
    out.print(f"{len(films)} films: {output}")
