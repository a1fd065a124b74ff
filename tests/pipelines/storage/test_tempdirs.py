"""What a killed process leaves on the temporary disk is taken out by the next."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipelines.storage.tempdirs import temporary_folder

OWNER = """
import os, signal, sys
from pipelines.storage.tempdirs import temporary_folder
with temporary_folder() as folder:
    (folder / "copy.mp4").write_bytes(b"0" * 1000)
    print(folder, flush=True)
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_a_folder_is_gone_after_its_block_and_after_an_error_in_it():
    with temporary_folder() as first:
        (first / "deep").mkdir()
    with pytest.raises(ValueError, match="mine"), temporary_folder() as second:
        raise ValueError("mine")
    assert not first.exists() and not second.exists()


def test_a_folder_outlives_those_made_after_it_in_the_same_process():
    with temporary_folder() as first:
        with temporary_folder() as second:
            assert first != second and first.is_dir() and second.is_dir()
        assert first.is_dir()


def test_the_folder_of_a_killed_process_is_taken_out_and_that_of_a_living_one_is_not():
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    folder = Path(owner.stdout.readline().strip())
    with temporary_folder():
        assert (folder / "copy.mp4").stat().st_size == 1000
    owner.communicate("")
    assert owner.returncode == -9 and folder.is_dir()
    with temporary_folder():
        assert not folder.exists()
