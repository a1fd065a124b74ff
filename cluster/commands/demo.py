"""`filmweaver demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import CommonOptions, local_path
from cluster.console import out


def demo(
    common: CommonOptions,
    films: Annotated[
        Path | None,
        typer.Option("--films", help="Your own videos instead of toy films.", parser=local_path),
    ] = None,
    output: Annotated[
        Path,
        typer.Option(
            "--out", help="Folder for everything that the demo writes.", parser=local_path
        ),
    ] = Path("out/demo"),
) -> None:
    """Do the whole job once: curate, encode, train, serve, and request a film over HTTP."""
    settings = common.load()
    from cluster.demo.run import run_demo

    for title, path in run_demo(settings, films, output).items():
        out.print(f"{title:<12}{path}")
