"""Errors as application/problem+json (RFC 9457). Nothing of an unexpected error reaches the client but its number."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mendloop.core.errors import Retryable
from mendloop.gateway.domain.refusals import (
    Busy,
    Conflict,
    Fault,
    Invalid,
    KeyReused,
    Malformed,
    NotAllowed,
    NotSignedIn,
    Refusal,
    TooLarge,
    TooMany,
    Unknown,
    UnknownRun,
    Unreadable,
)

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
_STATUS: dict[type[Refusal], int] = {
    Malformed: 400,
    NotSignedIn: 401,
    NotAllowed: 403,
    Unknown: 404,
    UnknownRun: 404,
    Conflict: 409,
    KeyReused: 422,
    Invalid: 422,
    TooLarge: 422,
    Unreadable: 502,
    TooMany: 429,
    Busy: 503,
}
SCHEMA = {
    "type": "object",
    "description": "RFC 9457 problem details",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "faults": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "field": {"type": "string", "description": "Dotted name of the field."},
                    "message": {"type": "string"},
                    "value": {"type": "string", "description": "The value as text, cut to 200 characters."},
                },
            },
        },
    },
    "required": ["type", "title", "status", "detail"],
}


def problem(
    status: int, detail: str, *, faults: Sequence[Fault] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """A problem document. Without faults it has no such member."""
    title = HTTPStatus(status).phrase
    body: dict[str, object] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if faults:
        body["faults"] = [{"field": f.field, "message": f.message, "value": f.value} for f in faults]
    return JSONResponse(body, status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Turn every error of the app into a problem."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(RequestValidationError, _unreadable)
    app.add_exception_handler(HTTPException, _plain)
    app.add_exception_handler(Retryable, _away)
    app.add_exception_handler(Exception, _unexpected)


def field_faults(errors: Sequence[Mapping[str, object]], *, skip: int = 0) -> tuple[Fault, ...]:
    """pydantic's errors as faults; skip leaves out leading parts of the place ("body")."""
    return tuple(_fault(error, skip=skip) for error in errors)


def _fault(error: Mapping[str, object], *, skip: int) -> Fault:
    place = error["loc"]
    assert isinstance(place, tuple)
    value = "" if error["type"] == "missing" else repr(error.get("input"))[:200]
    return Fault(".".join(str(part) for part in place[skip:]), str(error["msg"]), value)


def problem_of(refusal: Refusal) -> JSONResponse:
    """A refusal as a problem."""
    faults = refusal.faults if isinstance(refusal, Invalid) else ()
    return problem(_STATUS[type(refusal)], str(refusal), faults=faults, headers=_headers_of(refusal))


def _headers_of(refusal: Refusal) -> dict[str, str]:
    if isinstance(refusal, NotSignedIn):
        return {"WWW-Authenticate": 'Bearer realm="mendloop"'}
    if isinstance(refusal, TooMany):
        return {"Retry-After": str(max(1, math.ceil(refusal.wait_s)))}
    return {"Retry-After": "5"} if isinstance(refusal, Busy) else {}


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return problem_of(error)


async def _unreadable(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if any(fault["type"] == "json_invalid" for fault in errors):
        return problem(400, "the body is not JSON")
    return problem(422, "fields of the request are wrong", faults=field_faults(errors, skip=1))


async def _plain(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), headers=error.headers)


async def _away(request: Request, error: Exception) -> JSONResponse:
    log.warning("a request met a store that is away", extra={"reason": str(error), "path": request.url.path})
    return problem(503, "a store of this gateway does not answer; try again", headers={"Retry-After": "5"})


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    number = secrets.token_hex(4)
    log.error("request failed", exc_info=error, extra={"number": number, "path": request.url.path})
    return problem(500, f"something went wrong here; the gateway's log has it under {number}")
