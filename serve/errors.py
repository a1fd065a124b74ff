"""Errors of the server that are more specific than those of `fw_model`; knows nothing of HTTP."""

from __future__ import annotations

from fw_model.errors import CapacityError, InputError, StorageError


class NotFoundError(InputError):
    """No resource has this id."""


class ConflictError(InputError):
    """The state of the resource does not allow this."""


class TooLargeError(InputError):
    """A request body is larger than the limit."""


class FullError(StorageError):
    """The disk of a store is full."""


class BusyError(CapacityError):
    """The queue is full; try again after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
