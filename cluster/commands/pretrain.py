"""`filmweaver pretrain`: the small models that a tiny model is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.command import command
from cluster.commands.options import CommonOptions, folder
from cluster.console import out

pretrain_app = typer.Typer(
    help="Train the small models that a tiny model is made of.", no_args_is_help=True
)
Films = Annotated[Path, folder("Folder of films to learn from.")]


@command(pretrain_app, in_process=True)
def vae(
    common: CommonOptions,
    films: Films,
    output: Annotated[Path, folder("Where the VAE and its metrics go.")],
) -> None:
    """Train a causal video VAE."""
    settings = common.load()
    from pipelines.pretrain import run_pretrain_vae

    run_pretrain_vae(settings.pretrain, films, output)
    out.print(f"VAE: {output}")


@command(pretrain_app, in_process=True)
def embedder(
    common: CommonOptions,
    films: Films,
    output: Annotated[Path, folder("Where the CLIP model and its metrics go.")],
) -> None:
    """Train a CLIP model on films with captions."""
    settings = common.load()
    from pipelines.pretrain import run_pretrain_embedder

    run_pretrain_embedder(settings.pretrain, films, output)
    out.print(f"CLIP: {output}")


@command(pretrain_app, in_process=True)
def text_encoder(
    common: CommonOptions,
    output: Annotated[Path, folder("Where the text encoder and its metrics go.")],
) -> None:
    """Train a UMT5 text encoder on the prompts of toy films, without rendering any."""
    settings = common.load()
    from pipelines.pretrain import run_pretrain_text_encoder

    accuracy = run_pretrain_text_encoder(settings.pretrain, settings.toyfilms, output)
    out.print(f"Text encoder: {output}; lowest accuracy {min(accuracy.values()):.3f}")


@command(pretrain_app, in_process=True)
def toy_judge(
    common: CommonOptions,
    films: Annotated[Path, folder("Folder of toy films, with their truth beside them.")],
    output: Annotated[Path, folder("Where the toy judge and its metrics go.")],
) -> None:
    """Train the judge of generated toy films."""
    settings = common.load()
    from pipelines.pretrain import run_pretrain_toy_judge

    accuracy = run_pretrain_toy_judge(settings.pretrain, films, output)
    for name, value in accuracy.items():
        out.print(f"{name:<24}{value:g}")
    out.print(f"Toy judge: {output / 'toy_judge'}")


@command(pretrain_app, in_process=True)
def detector(
    common: CommonOptions,
    footage: Annotated[Path, folder("Folder of videos and pictures to make films of.")],
    output: Annotated[Path, folder("Where the network and its metrics go.")],
) -> None:
    """Train the learned shot detector on transitions made of any footage."""
    settings = common.load()
    from pipelines.pretrain import run_pretrain_detector

    accuracy = run_pretrain_detector(settings.pretrain, footage, output)
    for name, value in accuracy.items():
        out.print(f"{name:<24}{value:g}")
    out.print(f"Detector: {output / 'learned_cuts.safetensors'}")
