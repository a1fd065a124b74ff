"""`filmweaver train`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.options import CommonOptions, Location, folder
from cluster.console import out, watch_metrics


def train(
    common: CommonOptions,
    dataset: Annotated[str, typer.Argument(help="OUTPUT of `filmweaver encode`.", parser=Location)],
    output: Annotated[
        Path, folder("Where the training state, the metrics and the trained model go.")
    ],
) -> None:
    """Fine-tune the model on an encoded dataset; the same OUTPUT resumes the run."""
    settings = common.load()
    from cluster.ray_start import ray_session
    from pipelines.train import run_train

    training = settings.training
    watching = watch_metrics(
        "training",
        output / "metrics.jsonl",
        training.num_steps,
        logs_itself=training.num_workers == 0,
    )
    # A run in this process needs no Ray.
    session = ray_session(settings.ray) if training.num_workers else nullcontext()
    with session, watching:
        model = run_train(training, settings.model, dataset, output)
    out.print(f"Model: {model} (use it with --checkpoint)")
