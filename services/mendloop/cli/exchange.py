"""`mend export` and `mend import`: a batch as a data set for people, and what they leave of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from mendloop.cli.deployment import Deployment
from mendloop.cli.screen import output
from mendloop.cli.viewing import view_of
from mendloop.core.errors import Permanent
from mendloop.core.wire import artifact_ref
from mendloop.runs import steering
from mendloop.runs.answering import open_question
from mendloop.v1 import intervention_pb2

if TYPE_CHECKING:
    from mendloop.exchange.batches import StoredBatch
    from mendloop.exchange.review import Review
    from mendloop.exchange.reviewed import ReviewedBatch

console = output()
EXPORTS = ("hf", "label-studio", "argilla", "jsonl")
IMPORTS = ("label-studio", "argilla", "jsonl")


def export_batch(
    context: typer.Context,
    batch: Annotated[str, typer.Argument(help="Hash of a batch (or its beginning), or the id of a run.")],
    to: Annotated[Path, typer.Option("--to", help="The folder to write; it must be empty or not there.")],
    format_name: Annotated[str, typer.Option("--format", help=", ".join(EXPORTS))] = "hf",
    round: Annotated[int | None, typer.Option(help="With a run: its round; default the newest with a batch.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in that folder.")] = False,
) -> None:
    """Write a batch as a Hugging Face data set, or as tasks for Label Studio, Argilla or a script."""
    _check(format_name, known=EXPORTS)
    from mendloop.exchange.batches import find_batch
    from mendloop.exchange.folder import write_folder
    from mendloop.exchange.formats import exported
    from mendloop.exchange.provenance import provenance_of

    store = context.obj.store()
    found = find_batch(store, batch, round=round)
    files = exported(found, provenance_of(store, found), format_name=format_name)
    write_folder(to, files, force=force)
    _say(f"batch {found.short} of run {found.node.run_id}: {found.row_count} rows")
    _say(f"wrote {', '.join(sorted(files))} to {to}")


def import_review(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="What the labelling tool exported, or the JSONL that people filled.")],
    batch: Annotated[str, typer.Option("--for", help="Hash of the batch (or its beginning), or the id of its run.")],
    format_name: Annotated[str, typer.Option("--format", help=", ".join(IMPORTS))],
    round: Annotated[int | None, typer.Option(help="With a run: its round; default the newest with a batch.")] = None,
    unreviewed: Annotated[
        str, typer.Option(help="Rows without a verdict: refuse the file, keep them, or drop them.")
    ] = "refuse",
    disagreement: Annotated[
        str, typer.Option(help="Rows on which annotators disagree: refuse the file, or drop them.")
    ] = "refuse",
    by: Annotated[str, typer.Option(help="Who reviewed, where the file names nobody.")] = "",
    approve: Annotated[
        bool, typer.Option("--approve", help="Answer the run that waits with this batch: it trains on what is left.")
    ] = False,
) -> None:
    """Make a reviewed batch of people's annotations: accepted, corrected and rejected rows, each counted."""
    _check(format_name, known=IMPORTS)
    _check(unreviewed, known=("refuse", "keep", "drop"), option="--unreviewed")
    _check(disagreement, known=("refuse", "drop"), option="--disagreement")
    from mendloop.exchange.batches import find_batch
    from mendloop.exchange.formats import READERS
    from mendloop.exchange.review import Policy, reviewed
    from mendloop.exchange.reviewed import keep_review

    store = context.obj.store()
    found = find_batch(store, batch, round=round)
    if found.pairs:
        raise Permanent(f"batch {found.short} holds preferences: a review of pairs cannot be read back")
    policy = Policy(cast(Literal["refuse", "keep", "drop"], unreviewed), cast(Literal["refuse", "drop"], disagreement))
    review = reviewed(found.rows, READERS[format_name](file), policy=policy)
    kept = keep_review(store, found, review, by=by)
    for line in _summary(review, kept, total=len(found.rows)):
        _say(line)
    if approve:
        _approve_reviewed(context.obj, found, kept, by=", ".join(review.annotators) or by)


def _approve_reviewed(target: Deployment, batch: StoredBatch, kept: ReviewedBatch, *, by: str) -> None:
    """Raises Permanent where nothing is left, or where the run does not wait for a review of this batch."""
    run_id = batch.node.run_id
    if not kept.example_count:
        raise Permanent(f"no row is left to train on: `mend refuse {run_id}` drops the batch")
    view = view_of(target, run_id)
    question = open_question(view, is_review=True)
    waiting = question.part.batch.artifact if question.part.batch else None
    if waiting is None or waiting.sha256 != batch.artifact.sha256:
        which = f"batch {waiting.sha256[:12]}" if waiting else f"plan {question.plan_id}"
        raise Permanent(f"run {run_id} does not wait for batch {batch.short}, but for {which}")
    steering.answer(
        view,
        bus=target.bus(),
        approved=True,
        reason="",
        by=by,
        plan_id=question.plan_id,
        is_review=True,
        reviewed=_message(batch, kept),
    )
    _say(f"run {run_id} goes on with it")


def _message(batch: StoredBatch, kept: ReviewedBatch) -> intervention_pb2.DataBatchReady:
    return intervention_pb2.DataBatchReady(
        batch=artifact_ref(kept.batch),
        example_count=kept.example_count,
        drops=[intervention_pb2.DropCount(**row) for row in kept.drops],
        manifest=artifact_ref(kept.manifest),
        reviewed_from=artifact_ref(batch.artifact),
    )


def _summary(review: Review, kept: ReviewedBatch, *, total: int) -> list[str]:
    by = ", ".join(review.annotators)
    counts = [f"  {count} {reason}" for reason, count in review.counts.items()]
    return [
        f"{kept.example_count} of {total} rows are left" + (f", reviewed by {by}" if by else ""),
        *counts,
        f"reviewed batch {kept.batch.sha256[:12]}",
    ]


def _check(value: str, *, known: tuple[str, ...], option: str = "--format") -> None:
    if value not in known:
        raise Permanent(f"{option} is {value!r}; choose one of {', '.join(known)}")


def _say(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
