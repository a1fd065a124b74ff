"""Curation under SIGKILL: drivers, workers and decoding children die at random moments, and the
store may be away as well. Nothing is lost, nothing is there twice, what was committed stays."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fw_model.errors import StorageError
from fw_model.schemas.curated import CURATED_TABLES
from fw_model.schemas.curated_rows import SceneRow, ShotRow, VideoRow
from pipelines.curation.ledger.tables import MANIFEST, published_ids, read_published
from pipelines.storage import filesystems as locations
from pipelines.storage.store import Store
from tests.pipelines.curation.bucket import object_store
from tests.pipelines.curation.footage import write_film

NUM_VIDEOS = 200
NUM_KILLS = 20
NUM_LATE_KILLS = 3  # of these, while scenes are captioned
NUM_ACTORS = 2  # of each operator, and of the Ray that curate_once starts
START_S = 600.0
VICTIMS = ("ray::MapWorker", "pipelines.curation.analysis.decode_process")


class Rampage:
    """Starts curation and kills at random moments, until enough has been killed."""

    def __init__(self, source: str, output: str, environment: dict[str, str], seed: int) -> None:
        self._arguments = [source, output]
        self._environment = os.environ | environment | {"RAY_ADDRESS": ""}
        self._environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[3])
        self._store = Store(output)
        self._random = random.Random(seed)
        self.kills: Counter[str] = Counter()
        self.rewritten = 0
        self._known: dict[str, str] = {}

    def run(self) -> None:
        """Kill `NUM_KILLS` times, the last of them while scenes are captioned, and once more after
        publishing, while the ledger is put together; then let it end."""
        while self.kills.total() < NUM_KILLS - NUM_LATE_KILLS:
            driver = self._start()
            for _ in range(self._random.randrange(3)):
                self._wait_for_rows(driver, self._random.randrange(1, 8))
                self._kill_a_worker(driver)
            self._wait_for_rows(driver, self._random.randrange(1, 8))
            self._kill(driver)
            self._compare()
        for _ in range(NUM_LATE_KILLS):
            driver = self._start()
            self._wait_for_rows(driver, 1, stage="captioned")
            self._kill(driver)
            self._compare()
        driver = self._start()
        self._wait(driver, self._is_published)
        self._kill(driver)
        self._compare()
        assert self._start().wait(timeout=1200) == 0
        self._compare()

    def _start(self) -> subprocess.Popen[bytes]:
        script = str(Path(__file__).with_name("curate_once.py"))
        return subprocess.Popen(
            [sys.executable, script, *self._arguments],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _wait_for_rows(
        self, driver: subprocess.Popen[bytes], number: int, stage: str = "decoded"
    ) -> None:
        """Wait until `number` files more are committed, and a random moment longer."""
        before = self._num_files(stage)
        self._wait(driver, lambda: self._num_files(stage) >= before + number)

    def _wait(self, driver: subprocess.Popen[bytes], is_time: Callable[[], bool]) -> None:
        until = time.monotonic() + START_S
        while not is_time():
            assert driver.poll() is None, "curation ended before it was killed often enough"
            assert time.monotonic() < until, "curation does not get on"
            time.sleep(0.02)
        time.sleep(self._random.uniform(0, 0.2))

    def _kill_a_worker(self, driver: subprocess.Popen[bytes]) -> None:
        for kind in self._random.sample(VICTIMS, len(VICTIMS)):
            victims = [p for p in _descendants(driver.pid) if kind in _command(p)]
            if victims:
                self._random.choice(victims).kill()
                self.kills[kind] += 1
                return

    def _kill(self, driver: subprocess.Popen[bytes]) -> None:
        """Kill the driver alone, or with all that it started."""
        family = _descendants(driver.pid)
        if self._random.random() < 0.5:
            for process in family:
                _end(process)
            self.kills["all"] += 1
        else:
            self.kills["driver"] += 1
        driver.send_signal(signal.SIGKILL)
        driver.wait()
        _, alive = psutil.wait_procs(family, timeout=60)
        for process in alive:  # Ray's processes leave with their driver, a busy one late
            _end(process)

    def _compare(self) -> None:
        """Count the committed rows that were written anew since the last time."""
        rows = {row["source_id"]: row["created_at"] for row in self._decoded_rows()}
        assert rows.keys() >= self._known.keys(), "a committed row is gone"
        self.rewritten += sum(rows[key] != made for key, made in self._known.items())
        self._known = rows

    def _num_files(self, stage: str) -> int:
        return len(self._keys(stage))

    def _decoded_rows(self) -> Iterator[dict[str, str]]:
        for key in self._keys("decoded"):
            yield from self._store.read_table(key, ["source_id", "created_at"]).to_pylist()

    def _keys(self, stage: str) -> list[str]:
        with contextlib.suppress(StorageError):
            return [k for k in self._store.keys("ledger", ".parquet") if f"/{stage}/" in k]
        return []

    def _is_published(self) -> bool:
        with contextlib.suppress(StorageError):
            return self._store.exists(MANIFEST)
        return False


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def _end(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


def _check(output: str) -> None:
    """Every video is there once, and all that rows refer to is there, whole."""
    store = Store(output)
    videos = read_published(store, VideoRow, ["uri", "status", "num_shots"])
    assert len({v["uri"] for v in videos}) == len(videos) == NUM_VIDEOS + 1
    assert sum(v["status"] == "kept" for v in videos) == NUM_VIDEOS
    for table in CURATED_TABLES:
        ids = list(published_ids(store, table))
        assert len(ids) == len(set(ids)) > 0, table
    shots = read_published(store, ShotRow, ["shot_id", "keyframes"])
    assert len(shots) == sum(v["num_shots"] for v in videos)
    for keyframe in (keyframe for shot in shots for keyframe in shot["keyframes"]):
        assert hashlib.sha256(store.read(keyframe["uri"])).hexdigest() == keyframe["sha256"]
    scenes = read_published(store, SceneRow, ["shot_ids"])
    used = Counter(shot for scene in scenes for shot in scene["shot_ids"])
    assert set(used) <= {shot["shot_id"] for shot in shots}
    assert set(used.values()) == {1}
    assert store.keys("staging") == []


@pytest.mark.slow
@pytest.mark.parametrize("where", ["disk", "bucket_often_away"])
def test_nothing_is_lost_or_doubled_however_often_curation_is_killed(tmp_path, where):
    films = tmp_path / "films"
    films.mkdir()
    for number in range(NUM_VIDEOS):
        write_film(films / f"film_{number:03d}.mp4", [2 * number, 2 * number + 1], 8)
    (films / "text.mp4").write_text("no video")
    if where == "disk":
        rampage = Rampage(str(films), str(tmp_path / "out"), {}, seed=1)
        rampage.run()
        _check(str(tmp_path / "out"))
    else:
        with object_store("films", seed=3) as bucket, pytest.MonkeyPatch.context() as patch:
            for name, value in bucket.environment().items():
                patch.setenv(name, value)
            locations._bucket.cache_clear()
            bucket.share = 0.05
            rampage = Rampage(str(films), "s3://films/out", bucket.environment(), seed=2)
            rampage.run()
            assert bucket.num_refused > 100
            bucket.share = 0.0
            _check("s3://films/out")
            locations._bucket.cache_clear()
    assert rampage.kills.total() >= NUM_KILLS
    assert len(rampage.kills) >= 3, rampage.kills
    assert rampage.rewritten <= NUM_ACTORS * rampage.kills.total()
