"""REST over webhooks: each route reads the request, calls the desk and writes its answer. A secret is shown where it
is made, and again to who repeats a creation with its idempotency key."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from mendloop.gateway.adapters.gate import Asker
from mendloop.gateway.adapters.hook_desk import HookDesk
from mendloop.gateway.adapters.hook_requests import MAX_URL_LENGTH, Creation
from mendloop.gateway.adapters.run_routes import problems
from mendloop.gateway.domain.hooks import Attempt, Format, Hook, Wanted

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
MAX_WANTED, MAX_NAME_LENGTH = 100, 300
DAY_S = 86_400.0
_Names = Annotated[list[Annotated[str, Field(max_length=MAX_NAME_LENGTH)]], Field(max_length=MAX_WANTED)]
Url = Annotated[str, Field(min_length=1, max_length=MAX_URL_LENGTH, description="Where to post; https.")]
Description = Annotated[str, Field(max_length=500, description="What it is for, in a person's words.")]
FormatField = Annotated[
    Format, Field(description="event: the event stream's JSON document; slack: {text}, for Slack and its like.")
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Filter(_Body):
    """Each non-empty list must match; within a list one match suffices."""

    runs: _Names = Field(default_factory=list, description="Run ids.")
    types: _Names = Field(default_factory=list, description="Event types, e.g. EvalFailed.")
    causes: _Names = Field(default_factory=list, description="Causes, e.g. EOS_MASKED.")
    slices: _Names = Field(default_factory=list, description="Slice ids, or conditions: verb=jump.")

    def wanted(self) -> Wanted:
        """As the domain has it."""
        return Wanted(tuple(self.runs), tuple(self.types), tuple(self.causes), tuple(self.slices))


class NewWebhook(_Body):
    """A webhook to create."""

    url: Url
    description: Description = ""
    format: FormatField = "event"
    filter: Filter = Field(default_factory=Filter)


class ChangedWebhook(_Body):
    """What to change; what is left out or null stays."""

    url: Url | None = None
    description: Description | None = None
    format: FormatField | None = None
    filter: Filter | None = None


class Disabling(_Body):
    """Why a webhook is disabled; may be empty."""

    reason: Annotated[str, Field(max_length=500)] = ""


class Rotation(_Body):
    """How long the secret before signs too."""

    overlap_s: Annotated[float, Field(ge=0, le=30 * DAY_S, allow_inf_nan=False)] = DAY_S


class Replay(_Body):
    """Where to deliver from again."""

    start: Annotated[str, Field(alias="from", min_length=1, max_length=8192)] = Field(
        description="A time (ISO 8601), or the cursor of an event, which is not delivered again itself."
    )


class WebhookDocument(_Body):
    """A webhook as it stands."""

    webhook_id: str
    url: str
    description: str
    format: Format
    filter: Filter
    state: Literal["delivering", "failing", "disabled"]
    disabled_reason: str
    failing_since: datetime | None = Field(description="First failed try of the event at work.")
    attempt: int = Field(description="Failed tries of the event at work.")
    next_attempt_at: datetime | None
    last_error: str
    last_delivered_at: datetime | None
    delivered_count: int
    failed_count: int = Field(description="Failed tries ever.")
    secret_expiries: list[datetime | None] = Field(description="One for each secret that signs; null: it stays.")
    cursor: str = Field(description="Place in the log behind the last event that is done with.")
    created_at: datetime
    updated_at: datetime


class WebhookWithSecret(WebhookDocument):
    """A webhook with its new secret, which is shown this once."""

    secret: str = Field(description="whsec_..., after Standard Webhooks.")


class WebhookPage(_Body):
    """Webhooks by id."""

    webhooks: list[WebhookDocument]
    next_cursor: str = Field(description="Cursor of the next page; empty on the last.")


class DeliveryDocument(_Body):
    """One try of one event."""

    event_id: str
    type: str
    run_id: str
    at: datetime
    attempt: int
    result: Literal["delivered", "retry", "refused", "gone"]
    status: int = Field(description="HTTP status; 0 where none came.")
    seconds: float
    detail: str = Field(description="What went wrong; no answer's body is kept.")
    is_test: bool


class DeliveryPage(_Body):
    """Tries, newest first."""

    deliveries: list[DeliveryDocument]
    next_cursor: str = Field(description="Cursor of the next page; empty on the last.")


def hook_routes(desk: HookDesk) -> APIRouter:
    """The routes under /v1/webhooks."""
    routes = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
    _add_book(routes, desk)
    _add_changes(routes, desk)
    _add_deliveries(routes, desk)
    return routes


def _add_book(routes: APIRouter, desk: HookDesk) -> None:
    @routes.post(
        "",
        status_code=201,
        response_model=WebhookWithSecret,
        summary="Create a webhook",
        responses={
            200: {"model": WebhookWithSecret, "description": "The key's webhook as it stands, with its newest secret"},
            **problems(400, 409, 413, 422, 503),
        },
    )
    async def create(
        body: NewWebhook,
        response: Response,
        asker: Asker,
        idempotency_key: Annotated[str, Header(description="The same key and body give the same webhook.")] = "",
    ) -> dict[str, Any]:
        wanted = body.filter.wanted()
        request = Creation(body.url, body.description, body.format, wanted, key=idempotency_key, who=asker.who)
        hook = await to_thread.run_sync(lambda: desk.created(request))
        if hook is not None:
            response.status_code = 200
        else:
            await desk.check_url(body.url)
            hook = await to_thread.run_sync(lambda: desk.create(request))
        response.headers["Location"] = f"/v1/webhooks/{hook.hook_id}"
        return {**document(hook), "secret": hook.secrets[0].text}

    @routes.get("", response_model=WebhookPage, summary="List webhooks", responses=problems(422))
    async def list_webhooks(
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        cursor: Annotated[str, Query(max_length=100, description="next_cursor of the page before.")] = "",
    ) -> dict[str, Any]:
        found, next_cursor = await to_thread.run_sync(lambda: desk.page(after=cursor, limit=limit))
        return {"webhooks": [document(hook) for hook in found], "next_cursor": next_cursor}

    @routes.get("/{webhook_id}", response_model=WebhookDocument, summary="One webhook", responses=problems(404))
    async def get(webhook_id: str) -> dict[str, Any]:
        return document(await to_thread.run_sync(lambda: desk.get(webhook_id)))

    @routes.patch(
        "/{webhook_id}",
        response_model=WebhookDocument,
        summary="Change a webhook; its place in the log stays",
        responses=problems(400, 404, 413, 422),
    )
    async def update(webhook_id: str, body: ChangedWebhook) -> dict[str, Any]:
        if body.url is not None:
            await desk.check_url(body.url)
        hook = await to_thread.run_sync(
            lambda: desk.update(
                webhook_id,
                url=body.url,
                description=body.description,
                format=body.format,
                wanted=None if body.filter is None else body.filter.wanted(),
            )
        )
        return document(hook)

    @routes.delete("/{webhook_id}", status_code=204, summary="Delete a webhook", responses=problems(404))
    async def remove(webhook_id: str) -> None:
        await to_thread.run_sync(lambda: desk.remove(webhook_id))


def _add_changes(routes: APIRouter, desk: HookDesk) -> None:
    @routes.post(
        "/{webhook_id}/enable",
        response_model=WebhookDocument,
        summary="Let a webhook go on where it stopped",
        responses=problems(404),
    )
    async def enable(webhook_id: str) -> dict[str, Any]:
        return document(await to_thread.run_sync(lambda: desk.enable(webhook_id)))

    @routes.post(
        "/{webhook_id}/disable",
        response_model=WebhookDocument,
        summary="Stop a webhook; its place in the log stays",
        responses=problems(400, 404, 413, 422),
    )
    async def disable(webhook_id: str, body: Disabling | None = None) -> dict[str, Any]:
        reason = (body or Disabling()).reason
        return document(await to_thread.run_sync(lambda: desk.disable(webhook_id, reason=reason)))

    @routes.post(
        "/{webhook_id}/rotate-secret",
        response_model=WebhookWithSecret,
        summary="Make a new secret; the one before signs too for a while",
        responses=problems(400, 404, 413, 422),
    )
    async def rotate(webhook_id: str, body: Rotation | None = None) -> dict[str, Any]:
        overlap_s = (body or Rotation()).overlap_s
        hook, secret = await to_thread.run_sync(lambda: desk.rotate(webhook_id, overlap_s=overlap_s))
        return {**document(hook), "secret": secret}

    @routes.post(
        "/{webhook_id}/replay",
        status_code=202,
        response_model=WebhookDocument,
        summary="Deliver again from a time or a cursor",
        responses=problems(400, 404, 413, 422),
    )
    async def replay(webhook_id: str, body: Replay) -> dict[str, Any]:
        return document(await to_thread.run_sync(lambda: desk.replay(webhook_id, start=body.start)))


def _add_deliveries(routes: APIRouter, desk: HookDesk) -> None:
    @routes.post(
        "/{webhook_id}/test",
        response_model=DeliveryDocument,
        summary="Send a test event now and say what came of it",
        responses=problems(404, 503),
    )
    async def test(webhook_id: str) -> dict[str, Any]:
        hook = await to_thread.run_sync(lambda: desk.get(webhook_id))
        attempt = await desk.test(hook)
        await to_thread.run_sync(lambda: desk.record(attempt))
        return delivery(attempt)

    @routes.get(
        "/{webhook_id}/deliveries",
        response_model=DeliveryPage,
        summary="The newest tries of a webhook",
        responses=problems(404, 422),
    )
    async def deliveries(
        webhook_id: str,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        cursor: Annotated[str, Query(pattern=r"^([0-9]{1,18})?$", description="next_cursor of the page before.")] = "",
    ) -> dict[str, Any]:
        before = int(cursor) if cursor else None
        found, next_cursor = await to_thread.run_sync(lambda: desk.attempts(webhook_id, before=before, limit=limit))
        return {"deliveries": [delivery(attempt) for attempt in found], "next_cursor": next_cursor}


def document(hook: Hook) -> dict[str, Any]:
    """A hook as REST shows it: without its secrets."""
    at = hook.progress
    state = "disabled" if not at.is_enabled else "failing" if at.attempt or at.refused_count else "delivering"
    return {
        "webhook_id": hook.hook_id,
        "url": hook.url,
        "description": hook.description,
        "format": hook.format,
        "filter": {
            "runs": list(hook.wanted.runs),
            "types": list(hook.wanted.types),
            "causes": list(hook.wanted.causes),
            "slices": list(hook.wanted.slices),
        },
        "state": state,
        "disabled_reason": at.disabled_reason,
        "failing_since": _time(at.failing_since),
        "attempt": at.attempt,
        "next_attempt_at": _time(at.next_attempt_at or None),
        "last_error": at.last_error,
        "last_delivered_at": _time(at.last_delivered_at),
        "delivered_count": at.delivered_count,
        "failed_count": at.failed_count,
        "secret_expiries": [_time(secret.expires_at) for secret in hook.secrets],
        "cursor": at.cursor,
        "created_at": _time(hook.created_at),
        "updated_at": _time(hook.updated_at),
    }


def delivery(attempt: Attempt) -> dict[str, Any]:
    """A try as REST shows it."""
    return {
        "event_id": attempt.event_id,
        "type": attempt.event_type,
        "run_id": attempt.run_id,
        "at": _time(attempt.at),
        "attempt": attempt.number,
        "result": attempt.result,
        "status": attempt.answer.status,
        "seconds": attempt.answer.seconds,
        "detail": attempt.answer.detail,
        "is_test": attempt.is_test,
    }


def _time(at: float | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)
