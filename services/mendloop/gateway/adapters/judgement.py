"""What became of verdicts and of promoted checkpoints, written down event by event. Knows tables; decides nothing.

A decision writes the cases of its round and, where it promotes, a promise; a later measurement of a promised checkpoint
counts the slices that are worse; a rollback takes the promise back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, delete, func, select, update

from mendloop.database.engine import upsert
from mendloop.gateway.adapters.event_rows import micros, plain
from mendloop.gateway.adapters.run_tables import promises, verdict_cases
from mendloop.runs.calibration import MOST_CASES, Case, cases_of
from mendloop.runs.fold import run_of
from mendloop.runs.model import RoundView, RunView
from mendloop.runs.parts import Decision, Evaluation
from mendloop.runs.promises import MOST_CHECKPOINTS, promised, regressed
from mendloop.runs.stream import StreamEvent
from mendloop.v1 import checkpoint_pb2, common_pb2, evaluation_pb2

DECISIONS = (checkpoint_pb2.CheckpointPromoted, checkpoint_pb2.CheckpointRejected)


def write_judgement(db: Connection, kept: Iterable[StreamEvent], *, views: Mapping[str, RunView]) -> None:
    """What events, in the order of the log, say of verdicts and promises. views stand after all of them."""
    for event in kept:
        message, view = event.message, views.get(run_of(event.message))
        if isinstance(message, checkpoint_pb2.CheckpointRolledBack):
            db.execute(delete(promises).where(promises.c.checkpoint == plain(message.checkpoint.sha256)))
        elif view is not None and isinstance(message, DECISIONS):
            _decided(db, view, message.position)
        elif view is not None and isinstance(message, evaluation_pb2.EvalCompleted):
            _measured(db, view, message.position)


def _decided(db: Connection, view: RunView, at: common_pb2.RunPosition) -> None:
    part = view.round_at(at.round, at.arm)
    if part is None or part.evaluation is None or part.checkpoint is None or part.decision is None:
        return
    _write_cases(db, view, part=part, decision=part.decision)
    if part.decision.promoted:
        checkpoint = plain(part.checkpoint.artifact.sha256)
        _promise(db, checkpoint, part.evaluation, run_id=plain(view.run_id), decision=part.decision)


def _write_cases(db: Connection, view: RunView, *, part: RoundView, decision: Decision) -> None:
    rows = [
        {
            "run_id": plain(view.run_id),
            "round": part.number,
            "slice_id": plain(case.slice_id),
            "decided_us": micros(decision.stamp.at),
            "confidence": case.confidence,
            "improved": case.improved,
        }
        for case in cases_of(view, part)
    ]
    if rows:
        upsert(db, verdict_cases, rows)


def _promise(db: Connection, checkpoint: str, evaluation: Evaluation, *, run_id: str, decision: Decision) -> None:
    row = {
        "checkpoint": checkpoint,
        "run_id": run_id,
        "evaluation_id": plain(evaluation.evaluation_id),
        "promised_us": micros(decision.stamp.at),
        "lows": json.dumps(promised(evaluation)),
        "regressed": 0,
    }
    upsert(db, promises, [row])
    newest_first = select(promises.c.promised_us).order_by(promises.c.promised_us.desc())
    oldest_kept = db.execute(newest_first.offset(MOST_CHECKPOINTS - 1).limit(1)).scalar()
    if oldest_kept is not None:
        db.execute(delete(promises).where(promises.c.promised_us < oldest_kept))


def _measured(db: Connection, view: RunView, at: common_pb2.RunPosition) -> None:
    """The newest measurement counts; the one that the promise was made of is none."""
    part = view.round_at(at.round, at.arm)
    if part is None or part.evaluation is None or part.checkpoint is None:
        return
    is_ours = promises.c.checkpoint == plain(part.checkpoint.artifact.sha256)
    known = db.execute(select(promises.c.evaluation_id, promises.c.lows).where(is_ours)).first()
    if known is None or known.evaluation_id == plain(part.evaluation.evaluation_id):
        return
    count = len(regressed(json.loads(known.lows), part.evaluation))
    db.execute(update(promises).where(is_ours).values(regressed=count))


def read_cases(db: Connection) -> Sequence[Case]:
    """The newest MOST_CASES verdicts that were acted on."""
    columns = (verdict_cases.c.slice_id, verdict_cases.c.confidence, verdict_cases.c.improved)
    newest = select(*columns).order_by(verdict_cases.c.decided_us.desc()).limit(MOST_CASES)
    return [Case(row.slice_id, row.confidence, bool(row.improved)) for row in db.execute(newest)]


def read_regressed_count(db: Connection) -> int:
    """Slices of promoted checkpoints that are worse than promised."""
    return int(db.execute(select(func.coalesce(func.sum(promises.c.regressed), 0))).scalar_one())
