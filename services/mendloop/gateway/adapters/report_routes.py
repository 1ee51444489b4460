"""A run's page over REST, made on request. Loads the report's packages with the first one."""

from __future__ import annotations

from typing import Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from mendloop.artifacts.store import ArtifactStore
from mendloop.gateway import use_cases
from mendloop.gateway.adapters.gate import Asker
from mendloop.gateway.adapters.run_routes import problems
from mendloop.gateway.use_cases import Ports
from mendloop.runs.view import RunView

AT_ONCE = 1
_HTML: dict[int | str, dict[str, Any]] = {
    200: {"description": "The page", "content": {"text/html": {"schema": {"type": "string"}}}}
}


def report_routes(ports: Ports, *, store: ArtifactStore) -> APIRouter:
    """The route /v1/runs/{run_id}/report."""
    routes = APIRouter(prefix="/v1", tags=["runs"])
    limiter = CapacityLimiter(AT_ONCE)

    @routes.get(
        "/runs/{run_id}/report",
        summary="What a run found, did and decided, as a page",
        response_class=HTMLResponse,
        responses={**_HTML, **problems(401, 404, 501, 503)},
    )
    async def report(run_id: str, asker: Asker) -> HTMLResponse:
        view = await to_thread.run_sync(lambda: use_cases.get_run(run_id, ports=ports, asker=asker))
        try:
            page = await to_thread.run_sync(lambda: _page(view, store), limiter=limiter)
        except ImportError as error:
            raise HTTPException(501, "this gateway has no reports: pip install 'mendloop[report]' there") from error
        return HTMLResponse(page)

    return routes


def _page(view: RunView, store: ArtifactStore) -> str:
    # Loaded here: pyarrow and matplotlib more than double the memory of a gateway that makes no report.
    from mendloop.report.page import render
    from mendloop.report.summary import summarize

    return render([summarize(view, store=store)], title=f"Run {view.run_id}", subtitle=view.summary)
