"""Runs a command line on a cluster as a Ray job and follows its log to the end.

The resolved configuration travels with the job, and so do a story file and its reference images.
Large data does not: the cluster reads the paths on a submitted command line itself.
"""

from __future__ import annotations

import asyncio
import shlex
import tempfile
from pathlib import Path
from typing import NamedTuple

import yaml

from cluster.console import err, out
from cluster.ray_start import TOKEN_ADVICE
from fw_model.errors import CapacityError, ConfigError, FilmWeaverError

SHIPPED_CONFIG = "filmweaver_config.yaml"
SHIPPED_STORY = "story"


class JobFailed(FilmWeaverError):
    """The submitted job failed; its log says why."""


class Reserved(NamedTuple):
    """What the process of a job itself reserves; None: nothing, it runs on the head."""

    cpus: float | None = None
    gpus: float | None = None


def is_job_server(address: str | None) -> bool:
    """Return whether `address` names a cluster's job server rather than a Ray to join."""
    return address is not None and address.startswith(("http://", "https://"))


def submit(
    address: str | None,
    words: list[str | Path],
    profile: str,
    config: Path | None,
    overrides: list[str] | None,
    *,
    story: Path | None = None,
    in_process: bool = False,
) -> None:
    """Submit `filmweaver WORDS` to the job server at `address` and follow it to the end.

    The configuration is validated before anything is sent. A command that computes `in_process`
    reserves `ray.process_cpus` and `ray.process_gpus`; others run on the head and reserve what
    they need for their actors and tasks. ConfigError for a path that the cluster cannot see,
    CapacityError if no server answers, JobFailed if the job fails.
    """
    from cluster.config import FilmWeaverConfig, config_tree
    from fw_model.config import validate

    tree = config_tree(profile, config, overrides)
    tree.setdefault("ray", {})["address"] = "auto"
    settings = validate(FilmWeaverConfig, tree, f"profile {profile}")
    reserved = Reserved()
    if in_process:
        gpus = settings.ray.gpus_for(settings.model.device, cluster_has_gpus=False)
        reserved = Reserved(settings.ray.process_cpus, gpus)
    with tempfile.TemporaryDirectory(prefix="filmweaver-job-") as name:
        folder = Path(name)
        (folder / SHIPPED_CONFIG).write_text(yaml.safe_dump(tree), encoding="utf-8")
        if story is not None:
            shipped = _ship_story(story, folder / SHIPPED_STORY)
            words = [str(shipped) if word is story else word for word in words]
        entrypoint = shlex.join(
            ["filmweaver", *_visible(words), "--profile", profile, "--config", SHIPPED_CONFIG]
        )
        _run_job(str(address), entrypoint, folder, reserved)


def _visible(words: list[str | Path]) -> list[str]:
    """Return the command line as text; a local path must be absolute, on a shared disk."""
    for word in words:
        if isinstance(word, Path) and not word.is_absolute():
            raise ConfigError(
                f"{str(word)!r} is read on the cluster; give an absolute path on a disk that all"
                " nodes share."
            )
    return [str(word) for word in words]


def _ship_story(story: Path, folder: Path) -> Path:
    """Write a story file and its reference images to `folder`; return the path in the job."""
    from fw_model.generation.story_file import load_story, packed_references, unpack_references

    packed, images = packed_references(load_story(story), story.parent)
    folder.mkdir(parents=True)
    unpack_references(images, folder)
    text = yaml.safe_dump(packed.model_dump(mode="json"))
    (folder / "story.yaml").write_text(text, encoding="utf-8")
    return Path(SHIPPED_STORY) / "story.yaml"


def _run_job(address: str, entrypoint: str, folder: Path, reserved: Reserved) -> None:
    """Submit the job, follow its log, and raise unless it succeeded."""
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobStatus, JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
        job_id = client.submit_job(
            entrypoint=entrypoint,
            runtime_env={"working_dir": str(folder)},
            entrypoint_num_cpus=reserved.cpus,
            entrypoint_num_gpus=reserved.gpus,
        )
    except AuthenticationError as error:
        raise CapacityError(f"The cluster at {address} wants a token; {TOKEN_ADVICE}.") from error
    except (ConnectionError, RuntimeError) as error:
        raise CapacityError(
            f"No Ray job server answers at {address}; give the address of the cluster's"
            " dashboard, for example http://HEAD:8265."
        ) from error
    err.print(f"job {job_id} at {address}: {entrypoint}", markup=False)

    async def follow() -> None:
        async for lines in client.tail_job_logs(job_id):
            out.print(lines, end="", markup=False)

    asyncio.run(follow())
    if client.get_job_status(job_id) != JobStatus.SUCCEEDED:
        info = client.get_job_info(job_id)
        reason = (info.message or "no reason given").strip().splitlines()[-1]
        raise JobFailed(f"Job {job_id} failed: {reason}; its log is above.")
