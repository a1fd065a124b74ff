"""The errors that users see. Each message says what is wrong, the value, and what to do.

FilmWeaverError
├── ConfigError       a setting or a profile
├── InputError        a story, a prompt, a reference
├── CheckpointError   a model folder or a training state
├── MediaError        a video or an image
├── DataError         a dataset that is incomplete or does not fit
├── StorageError      a disk, a database, an object store
└── CapacityError     a port, a quota, memory
"""

from __future__ import annotations

from typing import TypeVar

Cause = TypeVar("Cause", bound=BaseException)


class FilmWeaverError(Exception):
    """The root of all errors that are meant for the user."""


class ConfigError(FilmWeaverError):
    """A setting is unknown, out of bounds or contradicts another."""


class InputError(FilmWeaverError):
    """A story, prompt or reference cannot be used."""


class CheckpointError(FilmWeaverError):
    """A model folder or training state is missing, incomplete or of another kind."""


class MediaError(FilmWeaverError):
    """A video or image cannot be read or written."""


class DataError(FilmWeaverError):
    """A dataset is incomplete or does not fit."""


class StorageError(FilmWeaverError):
    """A disk, database or object store failed."""


class CapacityError(FilmWeaverError):
    """A limited resource is taken: a port, a quota, memory."""


def shown(value: object) -> str:
    """Return a value as it is quoted in messages: a long one is cut, with its length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(str(value))} characters)"


def find_cause(error: BaseException, kind: type[Cause]) -> Cause | None:
    """Return the first error of type `kind` among `error` and its causes, None without one.

    Looks through what Ray and Ray Train wrap around an error of a worker.
    """
    seen: set[int] = set()
    queue = [error]
    while queue:
        current = queue.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        # Ray's class for a remote error subclasses its cause, and its text is a traceback.
        wrapped = getattr(current, "cause", None)
        if isinstance(current, kind) and not isinstance(wrapped, BaseException):
            return current
        failures = getattr(current, "worker_failures", None) or {}
        causes = (wrapped, *failures.values(), current.__cause__, current.__context__)
        queue += [cause for cause in causes if isinstance(cause, BaseException)]
    return None
