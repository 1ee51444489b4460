"""Events over the net: the live stream with resume, and a run's events as pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse

from mendloop.bus.base import Log
from mendloop.gateway import use_cases
from mendloop.gateway.adapters.gate import Asker
from mendloop.gateway.adapters.run_routes import problems
from mendloop.gateway.adapters.streams import MEDIA_TYPE, Streams
from mendloop.gateway.domain.refusals import Malformed
from mendloop.gateway.feed import Entry
from mendloop.gateway.subscription import BEGINNING, Subscription, seen_by
from mendloop.gateway.use_cases import Ports
from mendloop.runs.filters import EventFilter

MAX_PULLS = 20
MAX_LIMIT = 1000
LastEventId = Annotated[str, Header(alias="Last-Event-ID", max_length=8192)]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "id: cursor, event: CloudEvents type, data: JSON of headers and message",
        "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}


def event_routes(ports: Ports, *, history: Log, streams: Streams) -> APIRouter:
    """The routes /v1/events and /v1/runs/{run_id}/events."""
    routes = APIRouter(prefix="/v1", tags=["events"])

    @routes.get(
        "/events",
        summary="Stream events",
        response_class=Response,
        responses={**_STREAM, **problems(400, 401, 422, 429, 503)},
    )
    async def stream(
        request: Request,
        asker: Asker,
        runs: Annotated[list[str], Query(alias="run", default_factory=list, description="Run ids.")],
        types: Annotated[list[str], Query(alias="type", default_factory=list, description="e.g. EvalFailed.")],
        causes: Annotated[list[str], Query(alias="cause", default_factory=list, description="e.g. EOS_MASKED.")],
        slices: Annotated[
            list[str], Query(alias="slice", default_factory=list, description="Slice ids, or conditions: verb=jump.")
        ],
        start: Annotated[
            Literal["now", "beginning"], Query(alias="from", description="Where a stream without an id begins.")
        ] = "now",
        last_event_id: LastEventId = "",
    ) -> Response:
        wanted = _filter(runs=runs, types=types, causes=causes, slices=slices)
        seen = seen_by(asker, wanted, runs=ports.feed.runs)
        cursor = last_event_id or (BEGINNING if start == "beginning" else "")
        subscription = Subscription(ports.feed, history, wanted=seen, cursor=cursor)
        return streams.response(subscription, is_still_valid=request.state.is_still_valid)

    @routes.get(
        "/runs/{run_id}/events",
        summary="A run's events from its first: a page as JSON, or a stream where text/event-stream is accepted",
        response_class=Response,
        responses={
            200: {"description": "A page or a stream", "content": {"application/json": {}, MEDIA_TYPE: {}}},
            **problems(400, 401, 404, 422, 429, 503),
        },
    )
    async def of_run(
        request: Request,
        asker: Asker,
        run_id: str,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 100,
        cursor: Annotated[str, Query(max_length=8192, description="next_cursor of the page before.")] = "",
        last_event_id: LastEventId = "",
    ) -> Response:
        def subscribe() -> Subscription:
            use_cases.require_run(run_id, ports=ports, asker=asker)
            with use_cases.reading_pages():
                place = ports.run_logs.start(run_id, cursor=last_event_id or cursor or BEGINNING)
            return Subscription(ports.feed, ports.run_logs.of(run_id), wanted=_filter(runs=[run_id]), cursor=place)

        subscription = await to_thread.run_sync(subscribe)
        if MEDIA_TYPE in request.headers.get("accept", ""):
            return streams.response(subscription, is_still_valid=request.state.is_still_valid)
        return JSONResponse(await to_thread.run_sync(lambda: _page(subscription, limit=limit)))

    return routes


def _filter(
    *, runs: list[str], types: Sequence[str] = (), causes: Sequence[str] = (), slices: Sequence[str] = ()
) -> EventFilter:
    try:
        return EventFilter.of(runs=runs, types=types, causes=causes, slices=slices)
    except ValueError as error:
        raise Malformed(str(error)) from error


def _page(subscription: Subscription, *, limit: int) -> dict[str, Any]:
    """At most limit events, from at most MAX_PULLS reads; is_end says that nothing more is committed."""
    found: list[Entry] = []
    with use_cases.reading_pages():
        for _ in range(MAX_PULLS):
            found += subscription.pull()
            if len(found) >= limit or not subscription.is_behind:
                break
    is_cut = len(found) > limit
    page = found[:limit]
    return {
        "events": [
            {"cursor": entry.cursor, "type": entry.envelope.event_type, **json.loads(entry.data)} for entry in page
        ],
        "next_cursor": page[-1].cursor if is_cut else subscription.cursor,
        "is_end": not is_cut and not subscription.is_behind,
    }
