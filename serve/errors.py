"""What a failed request is answered with: RFC 9457 problem details, one sentence each."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from fw_model.errors import CapacityError, FilmWeaverError, InputError, StorageError, shown

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


class NotFoundError(InputError):
    """An id names nothing."""


class ConflictError(InputError):
    """The resource is not in a state that allows this."""


class TooLargeError(InputError):
    """A body is heavier than the limit."""


class FullError(StorageError):
    """The disk of a store is full."""


class BusyError(CapacityError):
    """The queue is full; `retry_after_s` says when to ask again."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


STATUS: tuple[tuple[type[FilmWeaverError], HTTPStatus], ...] = (  # first match wins
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (TooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (BusyError, HTTPStatus.TOO_MANY_REQUESTS),
    (InputError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (FullError, HTTPStatus.INSUFFICIENT_STORAGE),
    (StorageError, HTTPStatus.SERVICE_UNAVAILABLE),
    (CapacityError, HTTPStatus.SERVICE_UNAVAILABLE),
    (FilmWeaverError, HTTPStatus.INTERNAL_SERVER_ERROR),
)


def problem(
    status: int, detail: str, *, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """A problem+json answer."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    return JSONResponse(
        body | {"detail": detail} | more, status_code=status, headers=headers, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Answer every failure of `app` in one shape."""
    app.add_exception_handler(FilmWeaverError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


async def _known(request: Request, error: Exception) -> JSONResponse:
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("%s %s: %s", request.method, request.url.path, error)
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, BusyError) else None
    return problem(status, str(error), headers=headers)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
    message = str(first["msg"]).removeprefix("Value error, ")
    value = first.get("input")
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        message = f"{message}, got {shown(value)}"
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {message}.")


async def _http(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    return problem(error.status_code, str(error.detail), headers=headers)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed; its log has the reason.")
