"""Errors as application/problem+json (RFC 9457). Nothing of an unexpected error reaches the client but its number."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mendloop.gateway.domain.refusals import (
    Busy,
    Conflict,
    Fault,
    Invalid,
    KeyReused,
    Malformed,
    Refusal,
    UnknownRun,
    UnknownWebhook,
)

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
_STATUS: dict[type[Refusal], int] = {
    Malformed: 400,
    UnknownRun: 404,
    UnknownWebhook: 404,
    Conflict: 409,
    KeyReused: 422,
    Invalid: 422,
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
    app.add_exception_handler(Exception, _unexpected)


def field_faults(errors: Sequence[Mapping[str, object]], *, skip: int = 0) -> tuple[Fault, ...]:
    """pydantic's errors as faults; skip leaves out leading parts of the place ("body")."""
    return tuple(_fault(error, skip=skip) for error in errors)


def _fault(error: Mapping[str, object], *, skip: int) -> Fault:
    place = error["loc"]
    assert isinstance(place, tuple)
    value = "" if error["type"] == "missing" else repr(error.get("input"))[:200]
    return Fault(".".join(str(part) for part in place[skip:]), str(error["msg"]), value)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    faults = error.faults if isinstance(error, Invalid) else ()
    headers = {"Retry-After": "5"} if isinstance(error, Busy) else {}
    return problem(_STATUS[type(error)], str(error), faults=faults, headers=headers)


async def _unreadable(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    if any(fault["type"] == "json_invalid" for fault in errors):
        return problem(400, "the body is not JSON")
    return problem(422, "fields of the request are wrong", faults=field_faults(errors, skip=1))


async def _plain(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, str(error.detail), headers=error.headers)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    number = secrets.token_hex(4)
    log.error("request failed", exc_info=error, extra={"number": number, "path": request.url.path})
    return problem(500, f"something went wrong here; the gateway's log has it under {number}")
