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
    """Return a value as messages quote it: a long one by its beginning and its length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}... ({len(str(value))} characters)"
