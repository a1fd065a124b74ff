"""Renders every failure as an RFC 9457 problem document; knows nothing of routes or stores."""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from fw_model.errors import CapacityError, FilmWeaverError, InputError, StorageError, shown
from serve.errors import BusyError, ConflictError, FullError, NotFoundError, TooLargeError

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
Responses = dict[int | str, dict[str, Any]]  # FastAPI's type for what a route may answer

STATUS: tuple[tuple[type[FilmWeaverError], HTTPStatus], ...] = (  # the first match wins
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
MEANING = {
    404: "The resource does not exist or was deleted.",
    409: "The state of the resource does not allow this.",
    413: "The request body is larger than the limit.",
    422: "A value in the request is not valid.",
    429: "Too many jobs are unfinished; try again after `Retry-After` seconds.",
    503: "The database, the blobs or the generators are not available; try again later.",
    507: "A disk of the server is full.",
    "default": "The server failed unexpectedly; its log has the reason.",
}


class Problem(BaseModel):
    """RFC 9457 problem details, sent as application/problem+json."""

    type: str = "about:blank"
    title: str = Field(description="Name of the HTTP status.")
    status: int = Field(description="HTTP status.")
    detail: str = Field(description="What was wrong, the value, and what to do.")


def declare(*statuses: int | str) -> Responses:
    """The problems that a route may answer with, for its OpenAPI description."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": MEANING[status], "content": content} for status in statuses}


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A problem document as a response."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail).model_dump()
    return JSONResponse(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make `app` answer every failure with a problem document."""
    app.add_exception_handler(FilmWeaverError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(OSError, _disk_full)
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
    return problem(error.status_code, str(error.detail), headers=error.headers)


async def _disk_full(_request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        detail = "The server's disk is full; free some space and try again."
        return problem(HTTPStatus.INSUFFICIENT_STORAGE, detail)
    raise error


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, str(MEANING["default"]))
