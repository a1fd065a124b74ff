"""`filmweaver curate`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from cluster.commands.options import CommonOptions, Location, check_reasons, retry_settings
from cluster.console import out, phases


def curate(
    common: CommonOptions,
    source: Annotated[
        str, typer.Argument(help="Folder of videos, or a file that lists them.", parser=Location)
    ],
    output: Annotated[
        str, typer.Argument(help="Where tables and report go: a folder or a URI.", parser=Location)
    ],
    cut: Annotated[
        Literal["none", "copy", "transcode"] | None,
        typer.Option("--cut", help="Write each kept shot to its own file. Default: none."),
    ] = None,
    retry_quarantined: Annotated[
        list[str] | None,
        typer.Option(
            "--retry-quarantined",
            metavar="REASON",
            help="Retry what was quarantined or rejected for this reason (`all`: for any); "
            "repeatable.",
            callback=check_reasons,
        ),
    ] = None,
) -> None:
    """Find shots, scenes and captions in videos."""
    chosen = [f"curation.cut={cut}"] if cut else []
    settings = common.load(*chosen, *retry_settings(retry_quarantined or []))
    from cluster.ray_start import ray_session
    from pipelines.curate import run_curation
    from pipelines.storage.store import Store

    section = settings.curation.model_copy(update={"source": source, "output": output})
    with ray_session(settings.ray), phases() as on_progress:
        summary = run_curation(section, settings.model, on_progress=on_progress)
    out.print(
        f"{summary.videos_in} videos: {summary.videos_kept} kept,"
        f" {summary.videos_quarantined} quarantined; {summary.shots} shots in"
        f" {summary.scenes} scenes. Report: {Store(output).address(summary.report)}"
    )
