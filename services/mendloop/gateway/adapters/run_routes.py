"""REST over runs: each route reads the request, calls one use case and writes its answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from mendloop.gateway import use_cases
from mendloop.gateway.adapters.bodies import JSON, YAML, UnsupportedMediaType, read_recipe
from mendloop.gateway.adapters.gate import Asker
from mendloop.gateway.adapters.problems import MEDIA_TYPE, SCHEMA
from mendloop.gateway.use_cases import MAX_TEXT_LENGTH, Ports
from mendloop.runs import steering
from mendloop.runs.view import STATES, to_document, to_summary
from mendloop.submission.schema import recipe_schema

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
State = Literal[STATES]  # type: ignore[valid-type]
Text = Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]
_Example = dict[int | str, dict[str, Any]]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cancel(_Body):
    """Why a run is stopped or steered, and by whom; both may be empty. `by` is kept of the local token only."""

    reason: Text = ""
    by: Text = ""


class Approval(_Body):
    """A person's answer about a plan that waits, or about the batch of one."""

    plan_id: str = Field(min_length=1, max_length=200, description="Plan of the question, from the run's round.")
    approved: bool = Field(strict=True, description="True to go on, false to drop the plan.")
    reason: Text = Field("", description="Why, in the person's words.")
    by: Text = Field("", description="Who decided; kept of the local token only, else it is who asks.")
    review: bool = Field(False, strict=True, description="True answers the review of the plan's batch: all or nothing.")


class Cost(_Body):
    """Seconds, tokens and estimated floating-point operations."""

    wall_s: float
    gpu_s: float
    token_count: int
    flops: float


class RunSummary(_Body):
    """A run as a list shows it."""

    run_id: str
    recipe: str = Field(description="Name of the recipe; empty where it could not be read.")
    state: State
    stage: str = Field(description="The stage that works now; empty where none does.")
    round: int
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime | None
    outcome: str = Field(description="How it ended, e.g. promoted; empty while it goes on.")
    summary: str = Field(description="The controller's sentence on how it ended.")
    dead_letter_count: int
    cost: Cost


class RunPage(_Body):
    """Runs, newest first."""

    runs: list[RunSummary]
    next_cursor: str = Field(description="Cursor of the next page; empty on the last.")


def problems(*statuses: int) -> _Example:
    """The errors of a route for its description."""
    return {status: {"description": "Problem", "content": {MEDIA_TYPE: {"schema": SCHEMA}}} for status in statuses}


def run_routes(ports: Ports) -> APIRouter:
    """The routes under /v1/runs and the recipe's schema."""
    routes = APIRouter(prefix="/v1", tags=["runs"])
    _add_submission(routes, ports)
    _add_reading(routes, ports)
    _add_decisions(routes, ports)
    return routes


def _add_submission(routes: APIRouter, ports: Ports) -> None:
    @routes.post(
        "/runs",
        status_code=201,
        response_model=RunSummary,
        summary="Start a run",
        responses={
            200: {"model": RunSummary, "description": "The key's run"},
            **problems(400, 401, 403, 409, 413, 415, 422, 429, 503),
        },
        openapi_extra={"requestBody": {"required": True, "content": _recipe_content()}},
    )
    async def start(
        request: Request,
        asker: Asker,
        idempotency_key: Annotated[str, Header(description="The same key and recipe give the same run.")] = "",
        requested_by: Annotated[
            str, Query(max_length=200, description="Who asks; kept of the person at the gateway's machine only.")
        ] = "",
    ) -> Response:
        body = await request.body()
        content_type = request.headers.get("content-type", "")

        def work() -> use_cases.Started:
            recipe = read_recipe(body, content_type=content_type)
            return use_cases.start_run(recipe, ports=ports, asker=asker, key=idempotency_key, requested_by=requested_by)

        try:
            started = await to_thread.run_sync(work)
        except UnsupportedMediaType as error:
            raise HTTPException(415, str(error)) from error
        view = use_cases.get_run(started.run_id, ports=ports, asker=asker)
        return JSONResponse(
            to_summary(view), 201 if started.is_new else 200, headers={"Location": f"/v1/runs/{started.run_id}"}
        )

    @routes.get("/recipe.schema.json", summary="JSON Schema of a recipe")
    async def schema() -> dict[str, Any]:
        return recipe_schema()


def _add_reading(routes: APIRouter, ports: Ports) -> None:
    @routes.get(
        "/runs", response_model=RunPage, summary="List runs, newest first", responses=problems(400, 401, 422, 429)
    )
    async def list_runs(
        asker: Asker,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        cursor: Annotated[str, Query(max_length=1000, description="next_cursor of the page before.")] = "",
        state: Annotated[State | None, Query(description="Only runs in this state.")] = None,
    ) -> dict[str, Any]:
        page = use_cases.list_runs(ports=ports, asker=asker, limit=limit, cursor=cursor, state=state or "")
        return {"runs": [to_summary(run.view) for run in page.items], "next_cursor": page.next_cursor}

    @routes.get("/runs/{run_id}", summary="One run with all its numbers", responses=problems(401, 404))
    async def get_run(run_id: str, asker: Asker) -> dict[str, Any]:
        return to_document(use_cases.get_run(run_id, ports=ports, asker=asker), now=datetime.now(UTC))


def _add_decisions(routes: APIRouter, ports: Ports) -> None:
    @routes.post(
        "/runs/{run_id}/cancel",
        status_code=202,
        response_model=RunSummary,
        summary="Stop a run",
        responses=problems(400, 401, 403, 404, 409, 413, 422, 429),
    )
    async def cancel(run_id: str, asker: Asker, body: Cancel | None = None) -> dict[str, Any]:
        asked = body or Cancel()
        view = await to_thread.run_sync(
            lambda: use_cases.cancel_run(run_id, ports=ports, asker=asker, reason=asked.reason, by=asked.by)
        )
        return to_summary(view)

    for path, action, words in _STEERINGS:
        _add_steering(routes, ports, path=path, action=action, words=words)

    @routes.post(
        "/runs/{run_id}/approval",
        status_code=202,
        response_model=RunSummary,
        summary="Approve or refuse a plan",
        responses=problems(400, 401, 403, 404, 409, 413, 422, 429),
    )
    async def approval(run_id: str, asker: Asker, body: Approval) -> dict[str, Any]:
        view = await to_thread.run_sync(
            lambda: use_cases.answer_approval(
                run_id,
                ports=ports,
                asker=asker,
                plan_id=body.plan_id,
                approved=body.approved,
                reason=body.reason,
                by=body.by,
                is_review=body.review,
            )
        )
        return to_summary(view)


_STEERINGS = (
    ("pause", steering.PAUSE, "Take no further step; work that began ends by itself"),
    ("resume", steering.RESUME, "Let a paused run go on"),
    ("rollback", steering.ROLL_BACK, "Take the last promotion back; the checkpoint before it stands again"),
)


def _add_steering(routes: APIRouter, ports: Ports, *, path: str, action: str, words: str) -> None:
    @routes.post(
        f"/runs/{{run_id}}/{path}",
        status_code=202,
        response_model=RunSummary,
        summary=words,
        operation_id=f"{path}_run",
        responses=problems(400, 401, 403, 404, 409, 413, 422, 429),
    )
    async def steered(run_id: str, asker: Asker, body: Cancel | None = None) -> dict[str, Any]:
        asked = body or Cancel()
        view = await to_thread.run_sync(
            lambda: use_cases.steer_run(
                run_id, ports=ports, asker=asker, action=action, reason=asked.reason, by=asked.by
            )
        )
        return to_summary(view)


def _recipe_content() -> dict[str, Any]:
    return {JSON: {"schema": {"$ref": "#/components/schemas/Recipe"}}, YAML[0]: {"schema": {"type": "string"}}}


def recipe_components() -> dict[str, Any]:
    """The schema of a recipe and of its sections, as an API description holds them."""
    schema = recipe_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "Recipe": schema}
