"""`filmweaver serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.commands.options import CommonOptions


def serve(
    common: CommonOptions,
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Port of the HTTP server.")
    ] = None,
) -> None:
    """Serve stories over HTTP until interrupted."""
    settings = common.load()
    from cluster.ray_start import ray_session
    from serve.app import check_port, run

    if settings.ray.address == "local":  # elsewhere Ray Serve may already listen there
        check_port(port or settings.serving.port, host=settings.serving.host)
    with ray_session(settings.ray):
        run(settings.serving, settings.model, settings.generation, port=port)
