"""The demo's parts without its hours: story, HTTP, storyboard, report."""

import contextlib
import json
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uvicorn
import yaml
from PIL import Image

from cluster.config import load_config
from cluster.demo.report import write_report
from cluster.demo.run import WORK_MARK, DemoRun, _ask, _clear, _free_port, _server, run_demo
from cluster.demo.story import write_story_of_captions, write_toy_story
from cluster.demo.story_client import ServerError, StoryClient
from cluster.storyboard import MODE_WORDS
from fw_model.errors import CapacityError, ConfigError, DataError
from fw_model.generation.story_file import StoryFile, load_story
from fw_model.media.video import read_frames
from pipelines.toyfilms.config import ToyFilmsConfig
from serve.config import LeaseConfig, ServingConfig
from serve.http.api import create_api
from serve.http.dependencies import FrameSize, open_context
from serve.stores.address import StoreAddress
from serve.work.generators import LoadedGenerator
from serve.work.worker import Worker
from tests.serve.fake_generator import FakeGenerator


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The real API and a real worker over a fake generator, on a real socket."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    config = ServingConfig(data_dir=str(tmp_path / "serve"), lease=LeaseConfig(poll_s=0.02))
    context = open_context(config, StoreAddress.of(config), FrameSize(64, 48))
    loaded = LoadedGenerator(FakeGenerator(), fps=12.0, embedder_id="fake-16")
    worker = Worker(
        "worker-1", database=context.database, blobs=context.blobs, loaded=loaded, config=config
    )
    port = _free_port(0)
    settings = uvicorn.Config(create_api(context), port=port, log_level="error", ws="none")
    api = uvicorn.Server(settings)
    threads = [
        threading.Thread(target=api.run, daemon=True),
        threading.Thread(target=worker.run, daemon=True),
    ]
    for thread in threads:
        thread.start()
    while not api.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    worker.stop()
    api.should_exit = True
    for thread in threads:
        thread.join()
    context.database.close()


@pytest.fixture
def curated(tmp_path: Path) -> Path:
    """What curation leaves, as far as the demo reads it: one scene of two shots."""
    folder = tmp_path / "curated"
    (folder / "media").mkdir(parents=True)
    for name, hue in (("a", 40), ("b", 200)):
        Image.fromarray(np.full((24, 32, 3), hue, np.uint8)).save(folder / f"media/{name}.jpg")
    shots = [
        {"shot_id": name, "drop_reason": None, "keyframes": [{"uri": f"media/{name}.jpg"}]}
        for name in ("a", "b")
    ] + [{"shot_id": "c", "drop_reason": "dark", "keyframes": []}]
    captions = [
        {
            "scene_id": "s",
            "status": "captioned",
            "shots": [{"shot_id": n, "text": f"A <bear> {n} waves."} for n in ("a", "b")],
            "entities": [{"id": "1", "name": "bear"}],
        }
    ]
    for table, rows in (("shots", shots), ("captions", captions)):
        (folder / table).mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / table / "part.parquet")
    files = [{"table": t, "key": f"{t}/part.parquet"} for t in ("shots", "captions")]
    (folder / "manifest.json").write_text(json.dumps({"files": files}))
    summary = {"videos_in": 2, "videos_kept": 1, "videos_quarantined": 1, "shots": 3, "scenes": 1}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def test_the_toy_story_is_a_story_file_with_its_reference(tmp_path: Path) -> None:
    story = write_toy_story(tmp_path, ToyFilmsConfig(first_seed=900000, num_films=4))
    assert load_story(tmp_path / "story.yaml") == story
    assert len(story.shots) >= 4
    assert any(shot.extend for shot in story.shots)
    assert any(shot.references for shot in story.shots)


def test_a_story_is_told_from_captions(tmp_path: Path, curated: Path) -> None:
    story = write_story_of_captions(tmp_path / "story", curated)
    assert len(story.shots) == 4
    assert {shot.prompt for shot in story.shots} == {"A <bear> a waves.", "A <bear> b waves."}
    assert story.shots[2].references[0].image == "reference.png"


def test_nothing_captioned_is_said(tmp_path: Path, curated: Path) -> None:
    table = pa.table({"scene_id": ["s"], "status": ["rejected"], "shots": [[]], "entities": [[]]})
    pq.write_table(table, curated / "captions" / "part.parquet")
    with pytest.raises(DataError, match=r"report\.html"):
        write_story_of_captions(tmp_path / "story", curated)


def test_a_story_asked_for_over_http_passes_through_all_modes(server: str, tmp_path: Path) -> None:
    story = write_toy_story(tmp_path / "story", ToyFilmsConfig(first_seed=900000, num_films=4))
    client = StoryClient(server)
    client.wait_until_ready(30, lambda: True)
    film = tmp_path / "film.mp4"
    rows = _ask(client, story, tmp_path / "story", film)
    client.close()
    assert {row.mode for row in rows} == set(MODE_WORDS)
    assert sorted({row.shot for row in rows}) == list(range(len(story.shots)))
    assert len(read_frames(film)) == sum(len(row.frames) for row in rows)
    assert any(found.label == "a robot" for row in rows for found in row.retrieved)
    assert all(row.retrieved for row in rows if row.mode == "new_shot")


def test_a_refusal_is_the_servers_own_sentence(server: str, tmp_path: Path) -> None:
    text = tmp_path / "reference.png"
    text.write_text("no image")
    shots = [{"prompt": "a bear", "references": [{"image": "reference.png", "name": "a bear"}]}]
    client = StoryClient(server)
    with pytest.raises(ServerError, match="image"):
        client.make_story(StoryFile(shots=shots), base_dir=tmp_path, on_progress=lambda *_: None)
    client.close()


def test_the_requests_in_the_documentation_leave_a_film(
    server: str, tmp_path: Path, project_dir: Path
) -> None:
    page = (project_dir / "docs" / "serving.md").read_text()
    script = page.split("```bash\n")[1].split("```")[0]
    words = script.replace("localhost:8000", server.removeprefix("http://"))
    done = subprocess.run(["bash", "-euc", words], cwd=tmp_path, capture_output=True, check=False)
    assert done.stdout == b"done\n", done.stderr
    assert len(read_frames(tmp_path / "film.mp4")) > 0


def test_the_report_holds_everything_it_shows(tmp_path: Path, curated: Path) -> None:
    trained = tmp_path / "trained"
    trained.mkdir()
    lines = [{"step": i, "stage": "temporal", "loss": 1 / (i + 1)} for i in range(5)]
    (trained / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    film, storyboard = tmp_path / "film.mp4", tmp_path / "storyboard.png"
    film.write_bytes(b"film")
    Image.new("RGB", (8, 8)).save(storyboard)
    report = tmp_path / "report.html"
    write_report(
        report,
        title="A <day> out",
        film=film,
        storyboard=storyboard,
        curated=curated,
        trained=trained,
        timings_s={"curate": 3.0, "train": 9.0},
        facts={"Model": "tiny"},
    )
    page = report.read_text()
    for words in ("A &lt;day&gt; out", "A &lt;bear&gt; a waves.", "dark", "9.0 s", "video/mp4"):
        assert words in page
    assert "http" not in page.replace("HTTP", "")


def test_a_folder_of_somebody_else_is_not_cleared(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "thesis.txt").write_text("ten years")
    with pytest.raises(ConfigError, match="--out"):
        _clear(work)
    assert (work / "thesis.txt").exists()
    (work / "thesis.txt").unlink()
    work.rmdir()
    _clear(work)
    (work / "old").touch()
    _clear(work)
    assert not (work / "old").exists()


def test_films_that_the_demo_would_empty_are_refused(tmp_path: Path) -> None:
    films = tmp_path / "work" / "films"
    films.mkdir(parents=True)
    (tmp_path / "work" / WORK_MARK).touch()
    with pytest.raises(ConfigError, match="move the films"):
        run_demo(load_config("demo"), films, tmp_path)
    assert films.is_dir()


def test_the_demos_server_has_a_state_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = {}

    class EndsAtOnce:
        def __init__(self, command: list[str], **options: Any) -> None:
            started.update(options, config=yaml.safe_load(Path(command[-1]).read_text()))

        def poll(self) -> int:
            return 1

    monkeypatch.setenv("DATABASE_URL", "postgresql://production/stories")
    monkeypatch.setattr("cluster.demo.run.subprocess.Popen", EndsAtOnce)
    settings = load_config("demo", None, ["serving.blobs_uri=s3://production"])
    run = DemoRun(tmp_path)
    run.work.mkdir()
    with (
        pytest.raises(CapacityError, match=r"serve\.log"),
        _server(run, settings, tmp_path / "checkpoint"),
    ):
        pass
    assert "DATABASE_URL" not in started["env"]
    assert "PATH" in started["env"]
    assert started["config"]["serving"]["blobs_uri"] is None
    assert Path(started["config"]["serving"]["data_dir"]).is_relative_to(run.work)


def test_a_taken_port_is_left_alone() -> None:
    with contextlib.closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert _free_port(port) != port
