"""LoopService: each method reads its request, calls one use case and writes its answer, as the routes of REST do."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime

from anyio import to_thread
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct

from mendloop.bus.base import Log
from mendloop.gateway import use_cases
from mendloop.gateway.adapters.bodies import JSON, YAML, read_recipe
from mendloop.gateway.adapters.grpc_errors import Context
from mendloop.gateway.adapters.grpc_gate import caller
from mendloop.gateway.adapters.page_models import DEFAULT_LIMIT, MAX_LIMIT
from mendloop.gateway.adapters.streams import Streams
from mendloop.gateway.domain.refusals import Fault, Invalid, Malformed
from mendloop.gateway.domain.run_lines import RunLine, line_of
from mendloop.gateway.feed import Entry
from mendloop.gateway.subscription import BEGINNING, Subscription, seen_by
from mendloop.gateway.use_cases import Ports
from mendloop.runs import steering
from mendloop.runs.filters import EventFilter
from mendloop.runs.view import STATES, to_document
from mendloop.v1 import common_pb2
from mendloop.v1 import loop_service_pb2 as pb
from mendloop.v1.loop_service_pb2_grpc import LoopServiceServicer

TYPE_URL = "type.googleapis.com/"


class LoopService(LoopServiceServicer):
    """The service over the use cases. history is a bus connection for readers that catch up."""

    def __init__(self, ports: Ports, *, history: Log, streams: Streams) -> None:
        self._ports, self._history, self._streams = ports, history, streams

    async def StartRun(self, request: pb.StartRunRequest, context: Context) -> pb.StartRunResponse:
        """Asks for a run."""
        asker = caller().principal

        def work() -> use_cases.Started:
            kind = JSON if request.format == pb.RECIPE_FORMAT_JSON else YAML[0]
            return use_cases.start_run(
                read_recipe(request.recipe, content_type=kind),
                ports=self._ports,
                asker=asker,
                key=request.idempotency_key,
                requested_by=request.requested_by[:200],
            )

        started = await to_thread.run_sync(work)
        view = use_cases.get_run(started.run_id, ports=self._ports, asker=asker)
        return pb.StartRunResponse(run=run_of(line_of(view)), is_new=started.is_new)

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        """One run with all its numbers."""
        asker = caller().principal

        def work() -> pb.GetRunResponse:
            view = use_cases.get_run(request.run_id, ports=self._ports, asker=asker)
            document = ParseDict(to_document(view, now=datetime.now(UTC)), Struct())
            return pb.GetRunResponse(run=run_of(line_of(view)), document=document)

        return await to_thread.run_sync(work)

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        """A page of runs."""
        asker = caller().principal
        if request.page_size > MAX_LIMIT:
            raise _wrong("page_size", f"at most {MAX_LIMIT}", request.page_size)
        if request.state and request.state not in STATES:
            raise _wrong("state", f"one of {', '.join(STATES)}", request.state)

        def work() -> pb.ListRunsResponse:
            page = use_cases.list_runs(
                ports=self._ports,
                asker=asker,
                limit=request.page_size or DEFAULT_LIMIT,
                cursor=request.page_token,
                state=request.state,
            )
            return pb.ListRunsResponse(runs=[run_of(line) for line in page.items], next_page_token=page.next_cursor)

        return await to_thread.run_sync(work)

    async def CancelRun(self, request: pb.CancelRunRequest, context: Context) -> pb.CancelRunResponse:
        """Stops a run."""
        asker = caller().principal
        view = await to_thread.run_sync(
            lambda: use_cases.cancel_run(
                request.run_id, ports=self._ports, asker=asker, reason=request.reason, by=request.by
            )
        )
        return pb.CancelRunResponse(run=run_of(line_of(view)))

    async def PauseRun(self, request: pb.PauseRunRequest, context: Context) -> pb.PauseRunResponse:
        """Takes no further step."""
        return pb.PauseRunResponse(run=await self._steered(request, action=steering.PAUSE))

    async def ResumeRun(self, request: pb.ResumeRunRequest, context: Context) -> pb.ResumeRunResponse:
        """Lets a paused run go on."""
        return pb.ResumeRunResponse(run=await self._steered(request, action=steering.RESUME))

    async def RollBackRun(self, request: pb.RollBackRunRequest, context: Context) -> pb.RollBackRunResponse:
        """Takes the last promotion back."""
        return pb.RollBackRunResponse(run=await self._steered(request, action=steering.ROLL_BACK))

    async def ApproveIntervention(
        self, request: pb.ApproveInterventionRequest, context: Context
    ) -> pb.ApproveInterventionResponse:
        """Approves or refuses a plan that waits."""
        asker = caller().principal
        if not request.plan_id:
            raise _wrong("plan_id", "names the plan that waits", "")
        view = await to_thread.run_sync(
            lambda: use_cases.answer_approval(
                request.run_id,
                ports=self._ports,
                asker=asker,
                plan_id=request.plan_id,
                approved=request.approved,
                reason=request.reason,
                by=request.by,
                is_review=request.review,
            )
        )
        return pb.ApproveInterventionResponse(run=run_of(line_of(view)))

    async def StreamEvents(
        self, request: pb.StreamEventsRequest, context: Context
    ) -> AsyncGenerator[pb.StreamEventsResponse]:
        """Events from a cursor on."""
        now = caller()
        self._streams.check_room()
        try:
            wanted = EventFilter.of(
                runs=request.runs, types=request.types, causes=request.causes, slices=request.slices
            )
        except ValueError as error:
            raise Malformed(str(error)) from error
        cursor = request.cursor or (BEGINNING if request.from_beginning else "")
        seen = seen_by(now.principal, wanted, runs=self._ports.feed.runs)
        subscription = Subscription(self._ports.feed, self._history, wanted=seen, cursor=cursor)
        yield pb.StreamEventsResponse(cursor=subscription.cursor)
        async with aclosing(self._streams.steps(subscription, is_still_valid=now.is_still_valid)) as steps:
            async for step in steps:
                for entry in step.entries:
                    yield response_of(entry)
                if not step.entries:
                    yield pb.StreamEventsResponse(cursor=step.moved_to or subscription.cursor)

    async def _steered(
        self, request: pb.PauseRunRequest | pb.ResumeRunRequest | pb.RollBackRunRequest, *, action: str
    ) -> pb.Run:
        asker = caller().principal
        view = await to_thread.run_sync(
            lambda: use_cases.steer_run(
                request.run_id, ports=self._ports, asker=asker, action=action, reason=request.reason, by=request.by
            )
        )
        return run_of(line_of(view))


def run_of(line: RunLine) -> pb.Run:
    """A run as a list shows it."""
    cost = line.cost
    run = pb.Run(
        run_id=line.run_id,
        recipe=line.recipe,
        state=line.state,
        stage=line.stage,
        round=line.round,
        outcome=line.outcome,
        summary=line.summary,
        dead_letter_count=line.dead_letter_count,
        cost=common_pb2.Metering(wall_s=cost.wall_s, gpu_s=cost.gpu_s, token_count=cost.token_count, flops=cost.flops),
    )
    for stamp, at in (
        (run.started_at, line.started_at),
        (run.finished_at, line.finished_at),
        (run.updated_at, line.updated_at),
    ):
        if at is not None:
            stamp.FromDatetime(at)
    return run


def response_of(entry: Entry) -> pb.StreamEventsResponse:
    """An event as a stream sends it; its value is the bytes of the bus."""
    event = AnyMessage(type_url=TYPE_URL + entry.envelope.event_type, value=entry.envelope.value)
    return pb.StreamEventsResponse(cursor=entry.cursor, event=event, headers=entry.envelope.headers)


def _wrong(field: str, words: str, value: object) -> Invalid:
    return Invalid(f"{field} must be {words}", faults=(Fault(field, words, str(value)[:200]),))
