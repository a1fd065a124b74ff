"""The `filmweaver` command: reads options and configuration, calls the part that does the work.

Parts are imported inside their commands, so that `--help` and a spelling mistake answer at once.
With `--address http://HEAD:8265` the same command line runs on a cluster as a Ray job.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from cluster.commands.evaluate import evaluate, write_scenes
from cluster.commands.options import (
    Address,
    ConfigFile,
    Overrides,
    Profile,
    folder,
    load,
    local_path,
    path_or_uri,
    retried,
)
from cluster.commands.pretrain import pretrain_app
from cluster.console import err, meter, one_sentence, out, phases, watch_metrics
from cluster.submit import is_job_server, submit
from fw_model.errors import ConfigError

app = typer.Typer(
    name="filmweaver",
    help="Multi-shot video in which characters and places stay the same: "
    "curate, encode, train, generate, serve, evaluate.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.command()
def curate(
    source: Annotated[str, typer.Argument(help="Folder of videos, or a file that lists them.")],
    output: Annotated[
        str, typer.Argument(help="Where the tables and the report go: a folder or a URI.")
    ],
    cut: Annotated[
        str | None,
        typer.Option("--cut", help="Clips of the kept shots: none (default), copy or transcode."),
    ] = None,
    retry_quarantined: Annotated[
        list[str] | None,
        typer.Option(
            "--retry-quarantined",
            metavar="REASON",
            help="Try again what was quarantined or rejected for this reason; all: for any. "
            "Repeatable.",
        ),
    ] = None,
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Find shots, scenes and captions in videos."""
    chosen = [*(overrides or []), *([f"curation.cut={json.dumps(cut)}"] if cut else [])]
    chosen += retried(retry_quarantined or [])
    if is_job_server(address):
        words: list[str | Path] = ["curate", path_or_uri(source), path_or_uri(output)]
        return submit(address, words, profile, config, chosen)
    settings = load(profile, config, chosen, address)
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


@app.command()
def export(
    curated: Annotated[str, typer.Argument(help="OUTPUT of `filmweaver curate`.")],
    output: Annotated[str, typer.Argument(help="Where the export goes: a folder or a URI.")],
    form: Annotated[
        str, typer.Option("--format", help="parquet, webdataset or lance.")
    ] = "parquet",
    max_shard_mb: Annotated[
        int, typer.Option("--max-shard-mb", min=1, help="Largest shard (webdataset), MiB.")
    ] = 512,
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Write captioned scenes and their shots for other tools."""
    if is_job_server(address):
        words: list[str | Path] = ["export", path_or_uri(curated), path_or_uri(output)]
        words += ["--format", form, "--max-shard-mb", str(max_shard_mb)]
        return submit(address, words, profile, config, overrides)
    load(profile, config, overrides, address)
    from pipelines.export import run_export

    summary = run_export(curated, output, form, max_shard_bytes=max_shard_mb * 1024**2)
    out.print(f"{summary.scenes} scenes, {summary.shots} shots: {output}", markup=False)


@app.command()
def encode(
    curated: Annotated[str, typer.Argument(help="OUTPUT of `filmweaver curate`.")],
    output: Annotated[str, typer.Argument(help="Where the dataset goes: a folder or a URI.")],
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Turn curated scenes into latents and embeddings for training."""
    if is_job_server(address):
        words: list[str | Path] = ["encode", path_or_uri(curated), path_or_uri(output)]
        return submit(address, words, profile, config, overrides)
    settings = load(profile, config, overrides, address)
    from cluster.ray_start import ray_session
    from pipelines.encode import run_encode

    with ray_session(settings.ray):
        summary = run_encode(settings.encode, settings.model, curated, output)
    out.print(
        f"{summary.videos} videos: {summary.encoded} encoded, {summary.empty} empty,"
        f" {summary.failed} failed; {summary.shots} shots. Dataset: {output}",
        markup=False,
    )
    if summary.failed:
        out.print("The same command tries what failed again.")


@app.command()
def train(
    dataset: Annotated[str, typer.Argument(help="OUTPUT of `filmweaver encode`.")],
    output: Annotated[Path, folder("Checkpoints, metrics and the trained model.")],
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Fine-tune the model on an encoded dataset; the same OUTPUT again resumes."""
    if is_job_server(address):
        return submit(address, ["train", path_or_uri(dataset), output], profile, config, overrides)
    settings = load(profile, config, overrides, address)
    from cluster.ray_start import ray_session
    from pipelines.train import run_train

    training = settings.training
    watching = watch_metrics(
        "training",
        output / "metrics.jsonl",
        training.num_steps,
        speaks=training.num_workers == 0,
    )
    # A run in this process needs no Ray.
    session = ray_session(settings.ray) if training.num_workers else nullcontext()
    with session, watching:
        model = run_train(training, settings.model, dataset, output)
    out.print(f"Model: {model} (use it with --checkpoint)")


@app.command()
def generate(
    story: Annotated[Path, typer.Argument(help="Story file (YAML).")],
    film: Annotated[Path, typer.Option("--out", help="The film to write.", parser=local_path)],
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Model folder left by `train`.")
    ] = None,
    storyboard: Annotated[
        Path | None,
        typer.Option(
            "--storyboard", help="Picture of shots and keyframes (PNG).", parser=local_path
        ),
    ] = None,
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Generate the film of a story file, chunk by chunk."""
    if is_job_server(address):
        words: list[str | Path] = ["generate", story, "--out", film]
        words += ["--checkpoint", checkpoint] if checkpoint else []
        words += ["--storyboard", storyboard] if storyboard else []
        return submit(address, words, profile, config, overrides, story=story)
    chosen = [*(overrides or []), *([f"model.checkpoint={checkpoint}"] if checkpoint else [])]
    settings = load(profile, config, chosen, address)
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


@app.command()
def serve(
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Port of the HTTP server.")
    ] = None,
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Serve stories over HTTP until interrupted."""
    if is_job_server(address):
        words: list[str | Path] = ["serve", *(["--port", str(port)] if port else [])]
        return submit(address, words, profile, config, overrides)
    settings = load(profile, config, overrides, address)
    from cluster.ray_start import ray_session
    from serve.app import check_port, run

    if settings.ray.address == "local":  # elsewhere Ray Serve may already listen there
        check_port(port or settings.serving.port, host=settings.serving.host)
    with ray_session(settings.ray):
        run(settings.serving, settings.model, settings.generation, port=port)


app.command()(evaluate)
app.command("write-scenes")(write_scenes)


@app.command()
def toyfilms(
    output: Annotated[Path, folder("Where the films and their truth go.")],
    encoded: Annotated[
        bool,
        typer.Option(
            "--encoded",
            help="Draw straight into a training dataset (no files, nothing to curate) on this "
            "machine's cores and GPU.",
        ),
    ] = False,
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Render procedural films with known truth."""
    if is_job_server(address):
        words = ["toyfilms", output, *(["--encoded"] if encoded else [])]
        return submit(address, words, profile, config, overrides)
    settings = load(profile, config, overrides, address)
    if encoded:
        from pipelines.toyfilms.encoded import DrawJob, encode_films

        counts = encode_films(DrawJob(settings.toyfilms, settings.encode, settings.model, output))
        out.print(f"{counts['shots']} shots of {counts['sources']} films: {output}")
        return None
    from cluster.ray_start import ray_session
    from pipelines.toyfilms.write import render_films_on_ray

    with ray_session(settings.ray):
        films = render_films_on_ray(settings.toyfilms, output)
    out.print(f"{len(films)} films: {output}")


app.add_typer(pretrain_app, name="pretrain")


@app.command()
def demo(
    films: Annotated[
        Path | None,
        typer.Option("--films", help="Your own videos instead of toy films.", parser=local_path),
    ] = None,
    output: Annotated[
        Path, typer.Option("--out", help="Where everything goes.", parser=local_path)
    ] = Path("out/demo"),
    profile: Profile = "demo",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """The whole job once: curate, encode, train, serve, and a film asked for over HTTP."""
    if is_job_server(address):
        words: list[str | Path] = ["demo", *(["--films", films] if films else []), "--out", output]
        return submit(address, words, profile, config, overrides)
    settings = load(profile, config, overrides, address)
    from cluster.demo.run import run_demo

    result = run_demo(settings, films, output)
    for title, path in result.items():
        out.print(f"{title:<12}{path}")


@app.command()
def doctor(
    profile: Profile = "tiny",
    config: ConfigFile = None,
    overrides: Overrides = None,
    address: Address = None,
) -> None:
    """Check that this machine has what the commands need."""
    if is_job_server(address):
        return submit(address, ["doctor"], profile, config, overrides)
    settings = load(profile, config, overrides, address)
    from cluster.doctor import print_report

    if not print_report(settings):
        raise ConfigError("Something that FilmWeaver needs is missing; see the lines marked above.")


def main() -> None:
    """Run the command; a failure that the user can mend is one sentence and exit code 1."""
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
