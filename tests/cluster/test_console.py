"""Failures told in one sentence, and progress."""

import errno
import json
from pathlib import Path

import pytest

from cluster.console import last_record, meter, one_sentence
from fw_model.errors import ConfigError, MediaError


def test_our_errors_speak_for_themselves() -> None:
    assert one_sentence(ConfigError("the port is taken")) == "the port is taken"


def test_an_error_is_found_behind_what_wraps_it() -> None:
    outer = RuntimeError("task failed")
    outer.__cause__ = MediaError("film.mp4 is cut off")
    assert one_sentence(outer) == "film.mp4 is cut off"


def test_an_error_of_a_ray_task_is_told_without_its_traceback() -> None:
    exceptions = pytest.importorskip("ray.exceptions")
    cause = ConfigError("group_size must be even")
    wrapped = exceptions.RayTaskError("f", "a long traceback", cause).as_instanceof_cause()
    assert isinstance(wrapped, ConfigError)
    assert one_sentence(wrapped) == "group_size must be even"


def test_a_full_disk_is_one_sentence() -> None:
    sentence = one_sentence(OSError(errno.ENOSPC, "No space left on device", "out/film.mp4"))
    assert sentence is not None
    assert "disk is full" in sentence
    assert "out/film.mp4" in sentence


def test_a_fault_of_ours_stays_a_traceback() -> None:
    assert one_sentence(IndexError("list index out of range")) is None


def test_the_last_whole_record_is_read_while_the_next_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert last_record(path) is None
    path.write_text(json.dumps({"step": 1}) + "\n" + json.dumps({"step": 2}) + '\n{"st')
    assert last_record(path) == {"step": 2}


def test_progress_off_a_terminal_is_plain_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with meter("chunks", 2) as progress:
        progress.update(1, "shot 1")
        progress.update(2, "shot 2")
    assert [record.getMessage() for record in caplog.records] == [
        "chunks: 1/2 shot 1",
        "chunks: 2/2 shot 2",
    ]


def test_lines_tell_the_rate_and_what_is_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    now = [100.0]
    monkeypatch.setattr("cluster.console.time.monotonic", lambda: now[0])
    with meter("analyze", 50) as progress:
        progress.update(0)
        now[0] += 10.0
        progress.update(20)
    assert caplog.records[-1].getMessage() == "analyze: 20/50 (2/s, 15 s to go)"
