"""`filmweaver generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import CommonOptions, local_path
from cluster.console import meter, out


def generate(
    common: CommonOptions,
    story: Annotated[Path, typer.Argument(help="Story file (YAML).")],
    film: Annotated[
        Path, typer.Option("--out", help="The film to write (MP4).", parser=local_path)
    ],
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Model folder written by `train`.")
    ] = None,
    storyboard: Annotated[
        Path | None,
        typer.Option(
            "--storyboard", help="Picture of shots and keyframes (PNG).", parser=local_path
        ),
    ] = None,
) -> None:
    """Generate the film of a story file, chunk by chunk."""
    settings = common.load(*([f"model.checkpoint={checkpoint}"] if checkpoint else []))
    from cluster.film import generate_film, num_chunks
    from fw_model.generation.story_file import load_story

    plan = load_story(story)
    with meter("chunks", num_chunks(plan)) as progress:
        result = generate_film(
            settings,
            plan,
            base_dir=story.parent,
            film=film,
            storyboard=storyboard,
            progress=progress,
        )
    out.print(f"Film: {film} ({result.num_frames} frames, {result.duration_s:.1f} s)")
