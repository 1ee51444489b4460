"""REST over access: signing in and out, who one is, keys, and the audit log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from mendloop.gateway.adapters.audit_store import AuditStore, Deed, Entry
from mendloop.gateway.adapters.entrance import Entrance
from mendloop.gateway.adapters.gate import COOKIE, TLS_COOKIE, Asker, address_of, cookie_of
from mendloop.gateway.adapters.key_store import DAY_S, KeyStore
from mendloop.gateway.adapters.run_routes import problems
from mendloop.gateway.adapters.session_store import LIFETIME_S, csrf_token
from mendloop.gateway.domain.access import MAX_PATTERNS, PATTERN_FORM, RunLimits, Scope
from mendloop.gateway.domain.keys import MAX_NAME_LENGTH, Key
from mendloop.gateway.domain.refusals import NotSignedIn

MAX_LIFETIME_DAYS, MAX_OVERLAP_S, MAX_LIMIT = 3650, 30 * DAY_S, 500
Word = Literal["read", "run", "approve", "admin"]
KeyId = Annotated[str, Field(max_length=40)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SignIn(_Body):
    """A token: the local one, an API key, or an OIDC token."""

    token: str = Field(min_length=1, max_length=8192)


class SignedIn(_Body):
    """What a page sends as X-CSRF-Token with each change."""

    csrf_token: str


class Me(_Body):
    """Who asks."""

    name: str
    scopes: list[Word] = Field(description="All scopes that the credential holds, lowest first.")
    runs: list[str] | None = Field(description="Patterns of the runs that are seen, if the credential is limited.")
    own_runs: bool = Field(description="Whether runs that it started are seen where it is limited.")
    expires_at: datetime | None


class NewKey(_Body):
    """A key that is wanted."""

    name: str = Field(min_length=1, max_length=MAX_NAME_LENGTH, description="What it is for.")
    scope: Word
    expires_in_days: int | None = Field(90, ge=1, le=MAX_LIFETIME_DAYS, description="null: never.")
    runs: list[Annotated[str, Field(pattern=PATTERN_FORM)]] = Field(
        default_factory=list, max_length=MAX_PATTERNS, description="Only runs whose id matches one, e.g. team-a-*."
    )
    own_runs: bool = Field(False, strict=True, description="Only runs that it starts, besides those of `runs`.")
    reason: str = Field("", max_length=2000, description="Why; kept in the audit log.")


class Rotation(_Body):
    """How long the secrets of before go on beside the new one."""

    overlap_s: float = Field(DAY_S, ge=0, le=MAX_OVERLAP_S)
    reason: str = Field("", max_length=2000, description="Why; kept in the audit log.")


class KeyView(_Body):
    """A key as it is known; its secret is not."""

    key_id: str
    name: str
    scope: Word
    state: Literal["active", "expired", "revoked"]
    runs: list[str] | None = Field(description="Patterns of the runs that it sees; null: all runs.")
    own_runs: bool
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute.")


class KeyMade(_Body):
    """A key and its token, which is shown once."""

    key: KeyView
    token: str


class KeyList(_Body):
    """All keys, newest first."""

    keys: list[KeyView]


class AuditEntry(_Body):
    """One deed."""

    entry: int
    at: datetime
    who: str
    credential: str = Field(description="local, key:ID, oidc, or none.")
    action: str
    run_id: str
    reason: str
    address: str
    result: str = Field(description="HTTP status or gRPC code of the answer.")


class AuditPage(_Body):
    """Deeds, newest first."""

    entries: list[AuditEntry]
    next_before: int = Field(description="`before` of the next page; 0 on the last.")


def access_routes(
    entrance: Entrance, *, key_store: KeyStore, audit: AuditStore, clock: Callable[[], float]
) -> APIRouter:
    """The routes /v1/session, /v1/me, /v1/keys and /v1/audit."""
    routes = APIRouter(prefix="/v1", tags=["access"])
    _add_session(routes, entrance, clock=clock)
    _add_keys(routes, entrance, key_store=key_store, clock=clock)
    _add_audit(routes, audit)
    return routes


def _add_session(routes: APIRouter, entrance: Entrance, *, clock: Callable[[], float]) -> None:
    @routes.post(
        "/session",
        response_model=SignedIn,
        summary="Sign a browser in",
        responses=problems(400, 401, 403, 413, 422, 429),
    )
    async def sign_in(request: Request, response: Response, body: SignIn) -> SignedIn:
        address = address_of(request)
        entrance.check_failures(address)
        try:
            cookie, session = await entrance.checked(
                lambda: entrance.authenticator.sign_in(body.token), address=address
            )
        except NotSignedIn:
            await entrance.record(Deed("", "none", "POST /v1/session", "401", address=address))
            raise
        await entrance.record(Deed.of(session.principal, "POST /v1/session", "200", address=address))
        _set_cookie(request, response, cookie, lifetime_s=min(LIFETIME_S, session.expires_at - clock()))
        return SignedIn(csrf_token=csrf_token(cookie))

    @routes.get("/session", response_model=SignedIn, summary="The session's CSRF token", responses=problems(401, 429))
    async def session(request: Request, asker: Asker) -> SignedIn:
        cookie = cookie_of(request)
        if not cookie or "authorization" in request.headers:
            raise NotSignedIn("there is no session; this asks with a token, which needs no CSRF token")
        return SignedIn(csrf_token=csrf_token(cookie))

    @routes.delete("/session", status_code=204, summary="Sign out", responses=problems(401, 403, 429))
    async def sign_out(request: Request, asker: Asker) -> Response:
        response = Response(status_code=204)
        if cookie := cookie_of(request):
            await to_thread.run_sync(lambda: entrance.authenticator.sign_out(cookie))
            _set_cookie(request, response, "", lifetime_s=0)
        return response

    @routes.get("/me", response_model=Me, summary="Who asks, and what they may do", responses=problems(401, 429))
    async def me(asker: Asker) -> Me:
        limits = asker.limits
        return Me(
            name=asker.name,
            scopes=asker.scope.words,
            runs=None if limits is None else list(limits.patterns),
            own_runs=limits is not None and limits.own,
            expires_at=_time(asker.expires_at),
        )


def _add_keys(routes: APIRouter, entrance: Entrance, *, key_store: KeyStore, clock: Callable[[], float]) -> None:
    @routes.get("/keys", response_model=KeyList, summary="List keys", responses=problems(401, 403, 429))
    async def list_keys() -> KeyList:
        found = await to_thread.run_sync(key_store.all)
        return KeyList(keys=[_view(key, now=clock()) for key in found])

    @routes.post(
        "/keys",
        status_code=201,
        response_model=KeyMade,
        summary="Make a key",
        responses=problems(400, 401, 403, 413, 422, 429),
    )
    async def create(body: NewKey, asker: Asker) -> KeyMade:
        is_limited = bool(body.runs) or body.own_runs
        limits = RunLimits(own=body.own_runs, patterns=tuple(body.runs)) if is_limited else None
        lifetime_s = None if body.expires_in_days is None else body.expires_in_days * DAY_S
        key, token = await to_thread.run_sync(
            lambda: key_store.create(
                body.name, scope=Scope.of(body.scope), by=asker.name, limits=limits, lifetime_s=lifetime_s
            )
        )
        return KeyMade(key=_view(key, now=clock()), token=token)

    @routes.post(
        "/keys/{key_id}/rotate",
        response_model=KeyMade,
        summary="Give a key a new secret",
        responses=problems(400, 401, 403, 404, 409, 413, 422, 429),
    )
    async def rotate(key_id: str, body: Rotation | None = None) -> KeyMade:
        asked = body or Rotation(overlap_s=DAY_S, reason="")
        key, token = await to_thread.run_sync(lambda: key_store.rotate(key_id, overlap_s=asked.overlap_s))
        entrance.authenticator.forget()
        return KeyMade(key=_view(key, now=clock()), token=token)

    @routes.delete(
        "/keys/{key_id}", response_model=KeyView, summary="Revoke a key", responses=problems(401, 403, 404, 429)
    )
    async def revoke(key_id: str) -> KeyView:
        key = await to_thread.run_sync(lambda: key_store.revoke(key_id))
        entrance.authenticator.forget()
        return _view(key, now=clock())


def _add_audit(routes: APIRouter, audit: AuditStore) -> None:
    @routes.get(
        "/audit", response_model=AuditPage, summary="Who did what, newest first", responses=problems(401, 403, 422, 429)
    )
    async def page(
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
        before: Annotated[int, Query(ge=0, le=2**53, description="next_before of the page before.")] = 0,
        run: Annotated[str, Query(max_length=200, description="Only deeds on this run.")] = "",
        who: Annotated[str, Query(max_length=300, description="Only deeds of this person or key.")] = "",
    ) -> AuditPage:
        found = await to_thread.run_sync(lambda: audit.page(limit=limit + 1, before=before, run_id=run, who=who))
        shown = found[:limit]
        return AuditPage(
            entries=[_entry(entry) for entry in shown], next_before=shown[-1].entry if len(found) > limit else 0
        )


def _set_cookie(request: Request, response: Response, cookie: str, *, lifetime_s: float) -> None:
    is_tls = request.url.scheme == "https"
    response.set_cookie(
        TLS_COOKIE if is_tls else COOKIE,
        cookie,
        max_age=int(lifetime_s),
        path="/",
        secure=is_tls,
        httponly=True,
        samesite="strict",
    )


def _entry(entry: Entry) -> AuditEntry:
    deed = {name: getattr(entry.deed, name) for name in Deed.__dataclass_fields__}
    return AuditEntry(entry=entry.entry, at=datetime.fromtimestamp(entry.at, UTC), **deed)


def _view(key: Key, *, now: float) -> KeyView:
    document: dict[str, Any] = {
        "key_id": key.key_id,
        "name": key.name,
        "scope": key.scope.word,
        "state": key.state(now=now),
        "runs": None if key.limits is None else list(key.limits.patterns),
        "own_runs": key.limits is not None and key.limits.own,
        "created_at": _time(key.created_at),
        "created_by": key.created_by,
        "expires_at": _time(key.expires_at),
        "revoked_at": _time(key.revoked_at),
        "last_used_at": _time(key.last_used_at),
    }
    return KeyView(**document)


def _time(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
