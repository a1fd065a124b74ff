"""`filmweaver pretrain`: the small parts that a tiny model stands on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import Address, ConfigFile, Overrides, Profile, folder, load
from cluster.console import out
from cluster.submit import is_job_server, submit

pretrain_app = typer.Typer(
    help="Train the small parts that a tiny model stands on.", no_args_is_help=True
)


@pretrain_app.command("vae")
def pretrain_vae(
    films: Annotated[Path, folder("Folder of films to learn from.")],
    output: Annotated[Path, folder("Where the VAE and its metrics go.")],
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Train a causal video VAE."""
    if is_job_server(address):
        return submit(address, ["pretrain", "vae", films, output], profile, config, overrides)
    settings = load(profile, config, overrides, address)
    from pipelines.pretrain import run_pretrain_vae

    run_pretrain_vae(settings.pretrain, films, output)
    out.print(f"VAE: {output}")


@pretrain_app.command("embedder")
def pretrain_embedder(
    films: Annotated[Path, folder("Folder of films to learn from.")],
    output: Annotated[Path, folder("Where the CLIP model and its metrics go.")],
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Train a CLIP model on films with captions."""
    if is_job_server(address):
        return submit(address, ["pretrain", "embedder", films, output], profile, config, overrides)
    settings = load(profile, config, overrides, address)
    from pipelines.pretrain import run_pretrain_embedder

    run_pretrain_embedder(settings.pretrain, films, output)
    out.print(f"CLIP: {output}")


@pretrain_app.command("text-encoder")
def pretrain_text_encoder(
    output: Annotated[Path, folder("Where the text encoder and its metrics go.")],
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Train a UMT5 text encoder on the prompts of toy films; none is rendered."""
    if is_job_server(address):
        return submit(address, ["pretrain", "text-encoder", output], profile, config, overrides)
    settings = load(profile, config, overrides, address)
    from pipelines.pretraining.text_encoder import run_pretrain_text

    accuracy = run_pretrain_text(settings.pretrain, settings.toyfilms, output)
    out.print(f"Text encoder: {output}; answers right: {min(accuracy.values()):.3f} at least")


@pretrain_app.command("toy-judge")
def pretrain_toy_judge(
    films: Annotated[Path, folder("Folder of toy films, their truth beside them.")],
    output: Annotated[Path, folder("Where the toy judge and its metrics go.")],
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Train the judge of generated toy films."""
    if is_job_server(address):
        return submit(address, ["pretrain", "toy-judge", films, output], profile, config, overrides)
    settings = load(profile, config, overrides, address)
    from pipelines.pretraining.toy_judge import run_pretrain_toy_judge

    accuracy = run_pretrain_toy_judge(settings.pretrain, films, output)
    for name, value in accuracy.items():
        out.print(f"{name:<24}{value:g}")
    out.print(f"Toy judge: {output / 'toy_judge'}")
