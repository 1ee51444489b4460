"""The client that awaits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from mendloop.client import calls
from mendloop.client.calls import Request
from mendloop.client.connection import DEFAULT_URL, STREAM_TIMEOUT, Connection, answer_of, arguments
from mendloop.client.errors import ClientError, error_of
from mendloop.client.results import Event, Run, RunPage, RunSummary
from mendloop.client.stream import Place
from mendloop.client.talking import Answer, Send, Talk, answered, asked, waited
from mendloop.client.webhooks import AsyncWebhooks

T = TypeVar("T")


class AsyncClient:
    """A gateway, for one event loop. Every method raises ClientError, of which ApiError says what was refused."""

    def __init__(self, url: str = DEFAULT_URL, *, token: str | None = None, timeout_s: float = 30.0) -> None:
        self._connection = Connection.of(url, token=token, timeout_s=timeout_s)
        self._http = httpx.AsyncClient(**self._connection.options())
        self.webhooks = AsyncWebhooks(self._talk)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def start_run(
        self, recipe: Path | str | Mapping[str, Any], *, key: str = "", requested_by: str = ""
    ) -> RunSummary:
        """Ask for a run of a recipe: the path of a YAML file, or its values. The same key and recipe are one run."""
        return await self._talk(asked(calls.start_run(recipe, key=key, requested_by=requested_by)))

    async def list_runs(self, *, limit: int = 50, cursor: str = "", state: str = "") -> RunPage:
        """A page of runs, newest first."""
        return await self._talk(asked(calls.list_runs(limit=limit, cursor=cursor, state=state)))

    async def runs(self, *, state: str = "") -> AsyncIterator[RunSummary]:
        """All runs, newest first, page after page."""
        cursor = ""
        while True:
            page = await self.list_runs(limit=200, cursor=cursor, state=state)
            for run in page.runs:
                yield run
            cursor = page.next_cursor
            if not cursor:
                return

    async def get_run(self, run_id: str) -> Run:
        """One run with its rounds."""
        return await self._talk(asked(calls.get_run(run_id)))

    async def wait(
        self,
        run_id: str,
        *,
        timeout_s: float | None = None,
        poll_s: float = 1.0,
        on_progress: Callable[[Run], object] | None = None,
    ) -> Run:
        """The run when it is over; on_progress gets it each time it changed. Raises WaitTimeout; the run goes on."""
        return await self._talk(
            waited(run_id, timeout_s=timeout_s, poll_s=poll_s, on_progress=on_progress, clock=time.monotonic)
        )

    async def get_report(self, run_id: str) -> bytes:
        """The run's page as HTML."""
        return await self._talk(asked(calls.get_report(run_id)))

    async def approve(
        self, run_id: str, *, plan_id: str = "", reason: str = "", by: str = "", review: bool | None = None
    ) -> RunSummary:
        """Let a plan be carried out, or its batch be trained on; default: what waits."""
        return await self._talk(answered(run_id, plan_id=plan_id, approved=True, reason=reason, by=by, review=review))

    async def refuse(
        self, run_id: str, *, plan_id: str = "", reason: str = "", by: str = "", review: bool | None = None
    ) -> RunSummary:
        """Drop a plan, or its batch; default: what waits."""
        return await self._talk(answered(run_id, plan_id=plan_id, approved=False, reason=reason, by=by, review=review))

    async def cancel(self, run_id: str, *, reason: str = "", by: str = "") -> RunSummary:
        """Stop a run."""
        return await self._talk(asked(calls.steer(run_id, "cancel", reason=reason, by=by)))

    async def pause(self, run_id: str, *, reason: str = "", by: str = "") -> RunSummary:
        """Take no further step."""
        return await self._talk(asked(calls.steer(run_id, "pause", reason=reason, by=by)))

    async def resume(self, run_id: str, *, reason: str = "", by: str = "") -> RunSummary:
        """Let a paused run go on."""
        return await self._talk(asked(calls.steer(run_id, "resume", reason=reason, by=by)))

    async def me(self) -> dict[str, Any]:
        """Whom the token belongs to."""
        return await self._talk(asked(calls.me()))

    async def events(
        self,
        *,
        runs: Sequence[str] = (),
        types: Sequence[str] = (),
        causes: Sequence[str] = (),
        slices: Sequence[str] = (),
        after: str = "now",
    ) -> AsyncIterator[Event]:
        """Events as they are committed, without end: a broken connection is made again and goes on behind the last
        event. after is "now", "beginning" or an event's cursor. Raises ApiError for a filter that is refused."""
        place = Place(calls.events(runs=runs, types=types, causes=causes, slices=slices, after=after))
        while True:
            error: Exception | None = None
            try:
                async for event in self._connected(place):
                    yield event
            except ClientError as failed:
                error = failed
            await asyncio.sleep(place.ended(error))

    async def _connected(self, place: Place) -> AsyncIterator[Event]:
        try:
            async with self._http.stream(**arguments(place.request()), timeout=STREAM_TIMEOUT) as response:
                if response.status_code != 200:
                    refused = Answer(response.status_code, dict(response.headers), await response.aread())
                    raise error_of(refused.status, headers=refused.headers, content=refused.content)
                async for chunk in response.aiter_bytes():
                    for event in place.feed(chunk):
                        yield event
        except httpx.TransportError as error:
            raise self._connection.unreachable(error) from error

    async def _talk(self, talk: Talk[T]) -> T:
        """Drive a talk."""
        step = next(talk)
        while True:
            try:
                if isinstance(step, Send):
                    try:
                        answer = await self._send(step.request)
                    except httpx.TransportError as error:
                        step = talk.throw(self._connection.unreachable(error))
                    else:
                        step = talk.send(answer)
                else:
                    await asyncio.sleep(step.seconds)
                    step = talk.send(None)
            except StopIteration as end:
                result: T = end.value
                return result

    async def _send(self, request: Request) -> Answer:
        return answer_of(await self._http.request(**arguments(request)))
