"""`filmweaver generate`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import CommonOptions, Location
from cluster.console import meter, out


def generate(
    common: CommonOptions,
    story: Annotated[Path, typer.Argument(help="Story file (YAML).")],
    film: Annotated[
        str, typer.Option("--out", help="The film to write (MP4): a path or URI.", parser=Location)
    ],
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Model folder written by `train`.")
    ] = None,
    storyboard: Annotated[
        str | None,
        typer.Option(
            "--storyboard",
            help="Picture of shots and keyframes (PNG): a path or URI.",
            parser=Location,
        ),
    ] = None,
) -> None:
    """Generate the film of a story file, chunk by chunk."""
    settings = common.load(*([f"model.checkpoint={checkpoint}"] if checkpoint else []))
    from cluster.film import num_chunks, write_film
    from cluster.film_chunks import chunks_here, chunks_on_cluster
    from cluster.ray_start import ray_session
    from fw_model.generation.story_file import load_story

    plan = load_story(story)
    is_local = settings.ray.address == "local"  # one process here needs no Ray
    generated = (chunks_here if is_local else chunks_on_cluster)(settings, plan, story.parent)
    session = nullcontext() if is_local else ray_session(settings.ray)
    with session, meter("chunks", num_chunks(plan)) as progress:
        result = write_film(
            generated, title=plan.title, film=film, storyboard=storyboard, progress=progress
        )
    out.print(f"Film: {film} ({result.num_frames} frames, {result.duration_s:.1f} s)")
