"""The whole job once, at a small scale: films -> curate -> encode -> train -> serve -> a film.

Every stage is the function that its command calls; the server runs in its own process and is
called over HTTP. The demo writes film.mp4, storyboard.png and report.html, and under work/
everything that the stages wrote.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from cluster.console import meter, phases, watch_metrics
from cluster.demo.report import write_report
from cluster.demo.story import write_story_of_captions, write_toy_story
from cluster.demo.story_client import StoryClient
from cluster.film import num_chunks
from cluster.ray_start import ray_session
from cluster.storyboard import MODE_WORDS, Retrieved, StoryboardRow, write_storyboard
from fw_model.errors import CapacityError, ConfigError, DataError
from fw_model.files.atomic import write_atomic
from fw_model.generation.story_file import StoryFile
from fw_model.media.video import read_frames, read_image

if TYPE_CHECKING:
    from cluster.config import FilmWeaverConfig

log = logging.getLogger(__name__)

WORK_MARK = ".filmweaver-demo"
SERVER_READY_S = 600.0
SERVER_STOP_S = 60.0


@dataclass
class DemoRun:
    """Where a demo keeps its files, and how long its stages took."""

    output: Path
    timings_s: dict[str, float] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """The folder for what the stages write."""
        return self.output / "work"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the block and log its start and end."""
        log.info("%s ...", name)
        start = time.perf_counter()
        yield
        self.timings_s[name] = time.perf_counter() - start
        log.info("%s: %.1f s", name, self.timings_s[name])


def run_demo(settings: FilmWeaverConfig, films: Path | None, output: Path) -> dict[str, Path]:
    """Run every stage and return the paths of the results by name.

    `films` is a folder of videos; without it, toy films are rendered. The files of an earlier
    demo under `output` are replaced.
    """
    if films is not None and not films.is_dir():
        raise ConfigError(f"There is no folder of films at {films}; give one with --films.")
    run = DemoRun(output.resolve())
    if films is not None and films.resolve().is_relative_to(run.work):
        raise ConfigError(
            f"The demo empties {run.work} before it starts, and {films} is inside it; move the"
            " films or choose another --out."
        )
    _clear(run.work)
    trained = run.work / "trained"
    with ray_session(settings.ray):
        source = films.resolve() if films else _render(run, settings)
        curated = _curate(run, settings, source, toy=films is None)
        encoded = _encode(run, settings, curated)
        model = _train(run, settings, encoded, trained)
    story_dir = run.work / "story"
    story = (
        write_story_of_captions(story_dir, curated)
        if films
        else write_toy_story(story_dir, settings.toyfilms)
    )
    film, storyboard = run.output / "film.mp4", run.output / "storyboard.png"
    with (
        run.stage("serve and generate"),
        _server(run, settings, model) as url,
        closing(StoryClient(url)) as client,
    ):
        rows = _ask(client, story, story_dir, film)
    write_storyboard(storyboard, story.title, rows)
    report = run.output / "report.html"
    write_report(
        report,
        title=f"FilmWeaver: {story.title}",
        film=film,
        storyboard=storyboard,
        curated=curated,
        trained=trained,
        timings_s=run.timings_s,
        facts=_facts(settings, story, rows),
    )
    return {"film": film, "storyboard": storyboard, "report": report}


def _clear(work: Path) -> None:
    """Make `work` an empty folder; ConfigError if it was not made by a demo."""
    if work.exists():
        if not (work / WORK_MARK).exists():
            raise ConfigError(
                f"{work} was not created by a demo; choose another folder with --out."
            )
        shutil.rmtree(work)
    work.mkdir(parents=True)
    (work / WORK_MARK).touch()


def _render(run: DemoRun, settings: FilmWeaverConfig) -> Path:
    from pipelines.toyfilms.write import write_films

    folder = run.work / "films"
    with run.stage("render toy films"):
        write_films(settings.toyfilms, folder)
    return folder


def _curate(run: DemoRun, settings: FilmWeaverConfig, source: Path, *, toy: bool) -> Path:
    from pipelines.curate import run_curation

    output = run.work / "curated"
    section = settings.curation.model_copy(update={"source": str(source), "output": str(output)})
    if not toy and section.captioner.kind == "sidecar":
        offline = section.captioner.model_copy(update={"kind": "offline"})
        section = section.model_copy(update={"captioner": offline})
    with run.stage("curate"), phases() as on_progress:
        run_curation(section, settings.model, on_progress=on_progress)
    return output


def _encode(run: DemoRun, settings: FilmWeaverConfig, curated: Path) -> Path:
    from pipelines.encode import run_encode

    output = run.work / "encoded"
    with run.stage("encode"):
        run_encode(settings.encode, settings.model, curated, output)
    return output


def _train(run: DemoRun, settings: FilmWeaverConfig, encoded: Path, output: Path) -> Path:
    from pipelines.train import run_train

    metrics = output / "metrics.jsonl"
    with run.stage("train"), watch_metrics("training", metrics, settings.training.num_steps):
        return run_train(settings.training, settings.model, encoded, output)


@contextmanager
def _server(run: DemoRun, settings: FilmWeaverConfig, checkpoint: Path) -> Iterator[str]:
    """Run `filmweaver serve` on a free port while the block runs; yield its URL."""
    port = _free_port(settings.serving.port)
    tree = settings.model_dump(mode="json")
    tree["model"]["checkpoint"] = str(checkpoint)
    tree["serving"] |= {"data_dir": str(run.work / "serve"), "blobs_uri": None, "port": port}
    config = run.work / "serve.yaml"
    config.write_text(yaml.safe_dump(tree), encoding="utf-8")
    command = [sys.executable, "-m", "cluster.cli", "serve", "--config", str(config)]
    # The demo's model must not generate a real server's stories: keep its state separate.
    environment = {name: text for name, text in os.environ.items() if name != "DATABASE_URL"}
    log_path = run.work / "serve.log"
    with log_path.open("w", encoding="utf-8") as log_file:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=log_file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            url = f"http://{settings.serving.host}:{port}"
            with closing(StoryClient(url)) as client:
                try:
                    client.wait_until_ready(SERVER_READY_S, lambda: process.poll() is None)
                except CapacityError as error:
                    raise CapacityError(f"{error} The log is {log_path}.") from error
            yield url
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the server as Ctrl-C does; kill it if it does not stop."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(SERVER_STOP_S)
    except subprocess.TimeoutExpired:
        log.warning("the server did not stop within %g s; killing it", SERVER_STOP_S)
        process.kill()
        process.wait()


def _free_port(wanted: int) -> int:
    """Return `wanted` if nothing listens there, else a port that the system chooses."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                log.info("port %d is taken", port)
                continue
            return int(probe.getsockname()[1])
    raise CapacityError("No port on this machine is free; stop another server.")


def _ask(client: StoryClient, story: StoryFile, base_dir: Path, film: Path) -> list[StoryboardRow]:
    """Have the story generated, download its film, and return the rows of its storyboard."""
    total = num_chunks(story)
    with meter("chunks", total) as progress:
        story_id = client.make_story(story, base_dir=base_dir, on_progress=progress.update)
    made = client.story(story_id)
    write_atomic(film, client.download(made["video_url"]))
    rows = [row for shot in made["shots"] for row in _storyboard_rows(client, shot)]
    missing = set(MODE_WORDS) - {row.mode for row in rows}
    if missing:
        raise DataError(
            f"The story had no {', '.join(sorted(missing))} chunk: its shots retrieved nothing, so"
            " the keyframe store does not work; please report this."
        )
    return rows


def _storyboard_rows(client: StoryClient, shot: dict[str, Any]) -> list[StoryboardRow]:
    """Return one row per mode of each segment of a shot."""
    frames = read_frames(io.BytesIO(client.download(shot["video_url"])))
    memory = client.memory(shot["shot_id"])
    modes = [mode for segment in memory["segments"] for mode in segment["chunk_modes"]]
    # The causal VAE gives the first chunk of a shot a few frames fewer than the others.
    ends = len(frames) - np.arange(len(modes) - 1, -1, -1) * -(-len(frames) // len(modes))
    starts = [0, *ends[:-1].tolist()]
    rows, chunk = [], 0
    for segment in memory["segments"]:
        retrieved = [
            Retrieved(
                read_image(client.download(found["image_url"])),
                found["score"],
                found["reference"] or f"shot {found['shot_index'] + 1}",
            )
            for found in segment["retrieved"]
        ]
        spans: dict[str, tuple[int, int]] = {}
        for mode in segment["chunk_modes"]:
            first = spans.get(mode, (starts[chunk], 0))[0]
            spans[mode] = (first, int(ends[chunk]))
            chunk += 1
        rows += [
            StoryboardRow(shot["index"], mode, segment["prompt"], frames[first:last], retrieved)
            for mode, (first, last) in spans.items()
        ]
    return rows


def _facts(
    settings: FilmWeaverConfig, story: StoryFile, rows: list[StoryboardRow]
) -> dict[str, str]:
    """Return the rows of the report's first table."""
    training = settings.training
    stages = ", ".join(f"{stage.name} {stage.steps} steps" for stage in training.stages)
    engine = f"{training.engine}, ZeRO-{training.zero_stage}, {training.num_workers} workers"
    return {
        "Model": settings.model.path or "tiny",
        "Training": f"{stages}; {engine}",
        "Story": f"{len(story.shots)} shots, {num_chunks(story)} chunks, seed {story.seed}",
        "Modes": ", ".join(dict.fromkeys(row.mode for row in rows)),
    }
