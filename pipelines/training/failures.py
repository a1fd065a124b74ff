"""Why a training run on a cluster stopped, as one error."""

from __future__ import annotations

from fw_model.errors import CapacityError, FilmWeaverError, find_cause


def readable_failure(error: Exception) -> FilmWeaverError:
    """Return the FilmWeaverError that stopped the workers; others become one sentence."""
    known = find_cause(error, FilmWeaverError)
    if known is not None:
        return known
    first = next(iter(getattr(error, "worker_failures", {}).values()), error)
    lines = str(first).strip().splitlines()
    return CapacityError(
        f"Training workers failed ({type(first).__name__}: {lines[-1] if lines else ''}); "
        "the checkpoints are kept, so the same command continues from the last one."
    )
