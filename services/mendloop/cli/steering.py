"""`mend cancel`, `approve`, `refuse`, `pause`, `resume` and `rollback`: what a person decides about a run."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Annotated

import typer

from mendloop.bus.base import Bus
from mendloop.cli.deployment import Deployment
from mendloop.cli.screen import output
from mendloop.cli.viewing import view_of
from mendloop.runs import steering
from mendloop.runs.model import RunView

RunId = Annotated[str, typer.Argument(help="Id of the run, as `mend status` shows it.")]
Reason = Annotated[str, typer.Option(help="Why; stored with the decision and shown in the report.")]
By = Annotated[str, typer.Option(help="Who decides; default: the user of this machine.")]
PlanId = Annotated[str, typer.Option("--plan", help="Only this plan; default: the one that waits.")]
console = output()


def cancel(context: typer.Context, run_id: RunId, reason: Reason = "", by: By = "") -> None:
    """End a run now: what it holds of its budget is released, no further step is taken.

    A training at work stops within seconds and leaves nothing behind. The checkpoint that stood goes on standing.
    """
    view, bus = _found(context, run_id)
    steering.cancel(view, bus=bus, reason=reason, by=by or getpass.getuser())
    console.print(f"run {run_id} is cancelled; `mend report {run_id}` says what it did until then")


def approve(context: typer.Context, run_id: RunId, plan: PlanId = "", reason: Reason = "", by: By = "") -> None:
    """Let the plan that waits be carried out (`approval: true`), or be trained on its batch as it is (`review: true`).

    `mend status` shows runs that wait; what the plan does and holds of the budget stands in `mend report RUN`.
    """
    what = _answer(context, run_id, approved=True, plan_id=plan, reason=reason, by=by)
    console.print(f"the {what} is approved; run {run_id} goes on, `mend watch {run_id}` draws it")


def refuse(context: typer.Context, run_id: RunId, plan: PlanId = "", reason: Reason = "", by: By = "") -> None:
    """Drop the plan that waits, or its batch: the run ends, its reservations are released, the checkpoint stays."""
    what = _answer(context, run_id, approved=False, plan_id=plan, reason=reason, by=by)
    console.print(f"the {what} is refused; run {run_id} ends without training")


def pause(context: typer.Context, run_id: RunId, reason: Reason = "", by: By = "") -> None:
    """Hold a run: what has begun ends by itself, no further step is planned or judged until `mend resume`.

    Paused time does not count against the wall-clock budget; what is reserved stays reserved.
    """
    _steer(context, run_id, action=steering.PAUSE, reason=reason, by=by)
    console.print(f"run {run_id} is held; `mend resume {run_id}` lets it go on")


def resume(context: typer.Context, run_id: RunId, reason: Reason = "", by: By = "") -> None:
    """Let a paused run go on where it stopped; what arrived meanwhile was kept."""
    _steer(context, run_id, action=steering.RESUME, reason=reason, by=by)
    console.print(f"run {run_id} goes on")


def rollback(context: typer.Context, run_id: RunId, reason: Reason = "", by: By = "") -> None:
    """Take the last promotion of a run back: the checkpoint before it stands again.

    For what gates cannot see, after a promotion; a candidate that fails a gate is rolled back by itself. A run that
    still goes on ends. Asked again, it takes back the promotion before.
    """
    _steer(context, run_id, action=steering.ROLL_BACK, reason=reason, by=by)
    console.print(f"the last promotion of run {run_id} is taken back; `mend report {run_id}` names what stands")


COMMANDS: tuple[Callable[..., None], ...] = (cancel, approve, refuse, pause, resume, rollback)


def _answer(context: typer.Context, run_id: str, *, approved: bool, plan_id: str, reason: str, by: str) -> str:
    """What was answered, in a word."""
    view, bus = _found(context, run_id)
    by = by or getpass.getuser()
    question = steering.answer(view, bus=bus, approved=approved, plan_id=plan_id, reason=reason, by=by)
    return "batch" if question.is_review else "plan"


def _steer(context: typer.Context, run_id: str, *, action: str, reason: str, by: str) -> None:
    view, bus = _found(context, run_id)
    steering.steer(view, bus=bus, action=action, reason=reason, by=by or getpass.getuser())


def _found(context: typer.Context, run_id: str) -> tuple[RunView, Bus]:
    target: Deployment = context.obj
    return view_of(target, run_id), target.bus()
