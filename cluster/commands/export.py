"""`filmweaver export`."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.commands.options import CommonOptions, Location
from cluster.console import out


def export(
    common: CommonOptions,
    curated: Annotated[str, typer.Argument(help="OUTPUT of `filmweaver curate`.", parser=Location)],
    output: Annotated[
        str, typer.Argument(help="Where the export goes: a folder or a URI.", parser=Location)
    ],
    form: Annotated[
        str, typer.Option("--format", help="parquet, webdataset or lance.")
    ] = "parquet",
    max_shard_mb: Annotated[
        int, typer.Option("--max-shard-mb", min=1, help="Largest shard (webdataset), MiB.")
    ] = 512,
) -> None:
    """Write captioned scenes and their shots for other tools."""
    common.load()
    from pipelines.export import run_export

    summary = run_export(curated, output, form, max_shard_bytes=max_shard_mb * 1024**2)
    out.print(f"{summary.scenes} scenes, {summary.shots} shots: {output}", markup=False)
