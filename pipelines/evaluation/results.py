"""The result of one film: its row, and the file that keeps it in the output."""

from __future__ import annotations

import json
from collections.abc import Iterable

from fw_model.errors import StorageError
from fw_model.evaluation.scoring.score_rows import StoryScore
from pipelines.evaluation.jobs import StoryJob
from pipelines.storage.store import Store


class StoryResult(StoryScore):
    """The scores of a film and how it was made."""

    variant: str
    seed: int
    fingerprint: str
    filmed_s: float
    shot_frames: list[int]


def write_result(store: Store, job: StoryJob, result: StoryResult) -> None:
    """Store the result of `job`."""
    store.write(job.result_key, json.dumps(result).encode())


def read_result(store: Store, job: StoryJob) -> StoryResult | None:
    """Return the result of `job` if it is there and was made under the same settings."""
    if not store.exists(job.result_key):
        return None
    try:
        # The fingerprint covers the version of the rows, so a row that has it has these keys.
        result: StoryResult = json.loads(store.read(job.result_key))
    except ValueError as error:
        raise StorageError(
            f"{store.address(job.result_key)} is not valid JSON ({error}); delete it and run again."
        ) from error
    return result if result.get("fingerprint") == job.fingerprint else None


def existing_result(store: Store, job: StoryJob) -> StoryResult:
    """Return the result of a job that has been filmed; StorageError if it is gone."""
    result = read_result(store, job)
    if result is None:
        raise StorageError(
            f"{store.address(job.result_key)} is gone or was made with other settings; run the "
            "same command again to make it."
        )
    return result


def read_results(store: Store, jobs: Iterable[StoryJob]) -> dict[str, dict[int, StoryResult]]:
    """Return the results of filmed jobs by variant and seed."""
    results: dict[str, dict[int, StoryResult]] = {}
    for job in jobs:
        results.setdefault(job.variant, {})[job.seed] = existing_result(store, job)
    return results
