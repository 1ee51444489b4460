"""REST over what people browse: slices, diagnoses, outcomes, batches, lineage, dead letters."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from mendloop.gateway import pages
from mendloop.gateway.adapters import page_models as models
from mendloop.gateway.adapters.page_models import DEFAULT_LIMIT, Arm, Cursor, Limit, Search
from mendloop.gateway.adapters.run_models import Cost
from mendloop.gateway.adapters.run_routes import problems
from mendloop.gateway.domain.outcome_lines import Status
from mendloop.gateway.pages import BatchPage, Measured, Verdict
from mendloop.gateway.use_cases import Ports

MAX_ROUND = 2**31 - 1
Round = Annotated[int, Path(ge=0, le=MAX_ROUND)]
OfRound = Annotated[int | None, Query(ge=0, le=MAX_ROUND, description="Round; without it the newest measured one.")]


def page_routes(ports: Ports) -> APIRouter:
    """The routes that read pages of a run, and the dead letters'."""
    routes = APIRouter(prefix="/v1", tags=["browse"])
    _add_slices(routes, ports)
    _add_tables(routes, ports)
    _add_lineage(routes, ports)
    _add_letters(routes, ports)
    return routes


def _add_slices(routes: APIRouter, ports: Ports) -> None:
    @routes.get(
        "/runs/{run_id}/slices", summary="Slices of a run over its rounds", responses=problems(400, 404, 422, 503)
    )
    def list_slices(
        run_id: str,
        q: Search = "",
        cause: Annotated[str, Query(max_length=100, description="Only slices with this verdict.")] = "",
        weak: Annotated[bool | None, Query(description="Only weak slices, or only the others.")] = None,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = "",
    ) -> models.SlicePage:
        page = pages.list_slices(run_id, ports=ports, limit=limit, cursor=cursor, q=q, cause=cause, is_weak=weak)
        slices = [
            models.Slice(
                slice_id=line.slice_id,
                definition=line.definition,
                is_weak=line.is_weak,
                is_weak_now=line.is_weak_now,
                cause=line.cause,
                confidence=line.confidence,
                trend=[models.TrendPoint.model_validate(point) for point in line.trend],
            )
            for line in page.items
        ]
        return models.SlicePage(slices=slices, next_cursor=page.next_cursor, total=page.total)

    @routes.get(
        "/runs/{run_id}/diagnoses/{round}/{slice_id}",
        summary="A verdict with its evidence and attachments",
        responses=problems(400, 404, 422, 503),
    )
    def get_diagnosis(run_id: str, round: Round, slice_id: str, arm: Arm = "") -> models.DiagnosisBody:
        return _diagnosis(pages.get_diagnosis(run_id, round, slice_id, ports=ports, arm=arm))


def _add_tables(routes: APIRouter, ports: Ports) -> None:
    @routes.get(
        "/runs/{run_id}/outcomes",
        summary="What a checkpoint answered, beside the baseline; never a sealed item",
        responses=problems(400, 404, 422, 502, 503),
    )
    def list_outcomes(
        run_id: str,
        round: OfRound = None,
        arm: Arm = "",
        slice_id: Annotated[str, Query(alias="slice", max_length=200, description="Only items of this slice.")] = "",
        status: Annotated[Status, Query(description="broke, fixed: against the baseline.")] = "all",
        q: Search = "",
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = "",
    ) -> models.OutcomePage:
        measured, other, page = pages.list_outcomes(
            run_id,
            ports=ports,
            limit=limit,
            cursor=cursor,
            round=round,
            arm=arm,
            slice_id=slice_id,
            status=status,
            q=q,
        )
        return models.OutcomePage(
            outcomes=[models.OutcomeBody.model_validate(line) for line in page.items],
            next_cursor=page.next_cursor,
            total=page.total,
            measured=_measured(measured),
            compared_with=_measured(other) if other is not None else None,
        )

    @routes.get(
        "/runs/{run_id}/batches/{round}",
        summary="A batch: funnel, shifts and examples",
        responses=problems(400, 404, 422, 502, 503),
    )
    def get_batch(
        run_id: str, round: Round, arm: Arm = "", limit: Limit = DEFAULT_LIMIT, cursor: Cursor = ""
    ) -> models.BatchPageBody:
        return _batch(pages.get_batch(run_id, round, ports=ports, limit=limit, cursor=cursor, arm=arm))


def _add_lineage(routes: APIRouter, ports: Ports) -> None:
    @routes.get("/runs/{run_id}/lineage", summary="What came of what", responses=problems(404, 503))
    def get_lineage(run_id: str) -> models.LineageBody:
        found = pages.get_lineage(run_id, ports=ports)
        return models.LineageBody(
            nodes=[models.NodeBody.model_validate(node) for node in found.nodes],
            edges=[models.EdgeBody(source=edge.source, target=edge.target) for edge in found.edges],
        )


def _add_letters(routes: APIRouter, ports: Ports) -> None:
    @routes.get("/dead-letters", summary="Dead letters, newest first", responses=problems(400, 404, 422, 503))
    def list_letters(
        run: Annotated[str, Query(max_length=300, description="Only of this run.")] = "",
        limit: Limit = DEFAULT_LIMIT,
        cursor: Cursor = "",
    ) -> models.LetterPage:
        page = pages.list_letters(ports=ports, limit=limit, cursor=cursor, run_id=run)
        letters = [models.LetterBody.model_validate(line) for line in page.items]
        return models.LetterPage(dead_letters=letters, next_cursor=page.next_cursor, total=page.total)

    @routes.post(
        "/dead-letters/{letter_id}/replay",
        status_code=202,
        summary="Give the event to the service that refused it, once more; asking again changes nothing",
        responses=problems(400, 404, 409, 413, 422, 503),
    )
    def replay_letter(letter_id: str, body: models.Replay | None = None) -> models.LetterBody:
        asked = body or models.Replay()
        letter = pages.replay_letter(letter_id, ports=ports, by=asked.by, reason=asked.reason)
        return models.LetterBody.model_validate(letter)


def _measured(one: Measured) -> models.MeasuredBody:
    return models.MeasuredBody(round=one.round, arm=one.arm, evaluation_id=one.evaluation_id, checkpoint=one.checkpoint)


def _diagnosis(found: Verdict) -> models.DiagnosisBody:
    told = found.diagnosis
    return models.DiagnosisBody(
        verdict=models.VerdictLine(
            round=found.round,
            arm=found.arm,
            slice_id=told.slice.slice_id,
            definition=told.slice.name,
            cause=told.cause,
            family=told.family,
            confidence=told.confidence,
            also=list(told.also),
            summary=told.summary,
            failed_count=told.failed_count,
            evaluation_id=told.evaluation_id,
            at=told.stamp.at,
        ),
        causes=[models.CauseScore.model_validate(score) for score in told.scores],
        evidence=[
            models.EvidenceRow(
                probe=row.probe,
                measure=row.measurement,
                value=row.value,
                low=row.low,
                high=row.high,
                n=row.n,
                meaning=row.reading,
            )
            for row in told.evidence
        ],
        interventions=[
            models.Intervention(
                kind=one.kind,
                fixes=[f"{fix.setting}={fix.value_json}" for fix in one.fixes],
                rationale=one.rationale,
            )
            for one in told.interventions
        ],
        attachments=[models.AttachmentBody.model_validate(one) for one in found.attachments],
    )


def _batch(found: BatchPage) -> models.BatchPageBody:
    batch, page = found.batch, found.examples
    return models.BatchPageBody(
        batch=models.BatchBody(
            round=found.round,
            arm=found.arm,
            artifact=batch.artifact.sha256 if batch.artifact else "",
            example_count=batch.example_count,
            awaits_review=batch.awaits_review,
            is_reviewed=batch.reviewed_from is not None,
            cost=Cost.model_validate(batch.cost),
        ),
        funnel=[models.FunnelRow.model_validate(drop) for drop in batch.drops],
        shifts=found.shifts,
        examples=[models.ExampleBody.model_validate(line) for line in page.items],
        next_cursor=page.next_cursor,
        total=page.total,
    )
