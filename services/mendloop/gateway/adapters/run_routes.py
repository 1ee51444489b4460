"""REST over runs: each route reads the request, calls one use case and writes its answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from mendloop.gateway import use_cases
from mendloop.gateway.adapters.bodies import JSON, YAML, UnsupportedMediaType, read_recipe
from mendloop.gateway.adapters.gate import Asker
from mendloop.gateway.adapters.page_models import DEFAULT_LIMIT, Cursor, Limit, Search
from mendloop.gateway.adapters.problems import MEDIA_TYPE, SCHEMA
from mendloop.gateway.adapters.run_models import Approval, Cancel, RunPage, RunSummary, State
from mendloop.gateway.domain.run_lines import line_of
from mendloop.gateway.use_cases import Ports
from mendloop.runs import steering
from mendloop.runs.view import RunView, to_document
from mendloop.submission.schema import recipe_schema

_Example = dict[int | str, dict[str, Any]]


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

        def work() -> tuple[use_cases.Started, RunSummary]:
            recipe = read_recipe(body, content_type=content_type)
            started = use_cases.start_run(
                recipe, ports=ports, asker=asker, key=idempotency_key, requested_by=requested_by
            )
            return started, summary_of(use_cases.get_run(started.run_id, ports=ports, asker=asker))

        try:
            started, summary = await to_thread.run_sync(work)
        except UnsupportedMediaType as error:
            raise HTTPException(415, str(error)) from error
        headers = {"Location": f"/v1/runs/{started.run_id}"}
        return JSONResponse(summary.model_dump(mode="json"), 201 if started.is_new else 200, headers=headers)

    @routes.get("/recipe.schema.json", summary="JSON Schema of a recipe")
    async def schema() -> dict[str, Any]:
        return recipe_schema()


def _add_reading(routes: APIRouter, ports: Ports) -> None:
    @routes.get("/runs", summary="List runs, newest first", responses=problems(400, 401, 422, 429, 503))
    def list_runs(
        asker: Asker,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = "",
        state: Annotated[State | None, Query(description="Only runs in this state.")] = None,
        outcome: Annotated[str, Query(max_length=100, description="Only runs that ended so, e.g. promoted.")] = "",
        q: Search = "",
    ) -> RunPage:
        page = use_cases.list_runs(
            ports=ports, asker=asker, limit=limit, cursor=cursor, state=state or "", outcome=outcome, q=q
        )
        runs = [RunSummary.model_validate(line) for line in page.items]
        return RunPage(runs=runs, next_cursor=page.next_cursor, total=page.total)

    @routes.get(
        "/runs/{run_id}",
        response_model=dict[str, Any],
        summary="One run with all its numbers",
        responses=problems(401, 404, 503),
    )
    def get_run(run_id: str, asker: Asker) -> Response:
        view = use_cases.get_run(run_id, ports=ports, asker=asker)
        document = {**to_document(view, now=datetime.now(UTC)), **summary_of(view).model_dump(mode="json")}
        return JSONResponse(document)  # it is JSON already: checking it again takes longer than all the rest


def summary_of(view: RunView) -> RunSummary:
    """The line of a run as REST gives it."""
    return RunSummary.model_validate(line_of(view))


def _add_decisions(routes: APIRouter, ports: Ports) -> None:
    @routes.post(
        "/runs/{run_id}/cancel",
        status_code=202,
        summary="Stop a run",
        responses=problems(400, 401, 403, 404, 409, 413, 422, 429),
    )
    async def cancel(run_id: str, asker: Asker, body: Cancel | None = None) -> RunSummary:
        asked = body or Cancel()
        view = await to_thread.run_sync(
            lambda: use_cases.cancel_run(run_id, ports=ports, asker=asker, reason=asked.reason, by=asked.by)
        )
        return summary_of(view)

    for path, action, words in _STEERINGS:
        _add_steering(routes, ports, path=path, action=action, words=words)

    @routes.post(
        "/runs/{run_id}/approval",
        status_code=202,
        summary="Approve or refuse a plan",
        responses=problems(400, 401, 403, 404, 409, 413, 422, 429),
    )
    async def approval(run_id: str, asker: Asker, body: Approval) -> RunSummary:
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
        return summary_of(view)


_STEERINGS = (
    ("pause", steering.PAUSE, "Take no further step; work that began ends by itself"),
    ("resume", steering.RESUME, "Let a paused run go on"),
    ("rollback", steering.ROLL_BACK, "Take the last promotion back; the checkpoint before it stands again"),
)


def _add_steering(routes: APIRouter, ports: Ports, *, path: str, action: str, words: str) -> None:
    @routes.post(
        f"/runs/{{run_id}}/{path}",
        status_code=202,
        summary=words,
        operation_id=f"{path}_run",
        responses=problems(400, 401, 403, 404, 409, 413, 422, 429),
    )
    async def steered(run_id: str, asker: Asker, body: Cancel | None = None) -> RunSummary:
        asked = body or Cancel()
        view = await to_thread.run_sync(
            lambda: use_cases.steer_run(
                run_id, ports=ports, asker=asker, action=action, reason=asked.reason, by=asked.by
            )
        )
        return summary_of(view)


def _recipe_content() -> dict[str, Any]:
    return {JSON: {"schema": {"$ref": "#/components/schemas/Recipe"}}, YAML[0]: {"schema": {"type": "string"}}}


def recipe_components() -> dict[str, Any]:
    """The schema of a recipe and of its sections, as an API description holds them."""
    schema = recipe_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "Recipe": schema}
