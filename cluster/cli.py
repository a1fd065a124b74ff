"""The `filmweaver` command: its subcommands, put together, and how a failure is shown.

Each command imports what it needs when it runs, so `--help` and a misspelled option answer at once.
With `--address http://HEAD:8265` the same command line runs on a cluster as a Ray job.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from cluster.commands.command import command
from cluster.commands.curate import curate
from cluster.commands.demo import demo
from cluster.commands.doctor import doctor
from cluster.commands.encode import encode
from cluster.commands.evaluate import evaluate
from cluster.commands.export import export
from cluster.commands.generate import generate
from cluster.commands.pretrain import pretrain_app
from cluster.commands.serve import serve
from cluster.commands.toyfilms import toyfilms
from cluster.commands.train import train
from cluster.commands.write_scenes import write_scenes
from cluster.console import err, one_sentence, out

app = typer.Typer(
    name="filmweaver",
    help="Multi-shot video in which characters and places stay the same: "
    "curate, encode, train, generate, serve, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

command(app)(curate)
command(app, in_process=True)(export)
command(app)(encode)
command(app)(train)
command(app, ships="story")(generate)
command(app)(serve)
command(app)(evaluate)
command(app, in_process=True)(write_scenes)
command(app, in_process="encoded")(toyfilms)
app.add_typer(pretrain_app, name="pretrain")
command(app, profile="demo")(demo)
command(app, in_process=True)(doctor)


def print_version(wanted: bool) -> None:
    """Print the version and exit, if `wanted`."""
    if wanted:
        out.print(f"filmweaver {version('filmweaver')}")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Hold the options of `filmweaver` itself."""


def main() -> None:
    """Run the command; show an error that the user can fix as one sentence, with exit code 1."""
    try:
        app()
    except Exception as error:
        sentence = one_sentence(error)
        if sentence is None:
            raise
        err.print(f"filmweaver: {sentence}", style="red", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
