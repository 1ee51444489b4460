"""LoopMetrics: the metrics of runs, budgets and decisions, from views and events. Knows no thread, bus or database.

Gauges show the runs that are open; a finished run is shown for LINGER_S more, so that a scrape sees its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from google.protobuf.message import Message

from mendloop.core.contracts import CONTROLLER
from mendloop.core.events import Envelope
from mendloop.core.metrics import MOST_RUNS, MOST_SLICES
from mendloop.core.telemetry import Telemetry
from mendloop.runs import calibration, spending
from mendloop.runs.calibration import Case
from mendloop.runs.model import RoundView, RunView
from mendloop.runs.stages import STATES, state_of
from mendloop.runs.values import UNKNOWN_TIME, Cost
from mendloop.v1 import checkpoint_pb2, common_pb2, diagnosis_pb2, evaluation_pb2, intervention_pb2

LINGER_S = 60.0
STEP_OF: Mapping[type[Message], str] = {
    checkpoint_pb2.CheckpointReady: "training",
    checkpoint_pb2.TrainingFailed: "training",
    evaluation_pb2.EvalCompleted: "evaluation",
    diagnosis_pb2.DiagnosisReady: "diagnosis",
    intervention_pb2.DataBatchReady: "data",
}
DECISIONS: Mapping[type[Message], str] = {
    checkpoint_pb2.CheckpointPromoted: "promoted",
    checkpoint_pb2.CheckpointRejected: "rejected",
    checkpoint_pb2.CheckpointRolledBack: "rolled_back",
}
OPEN_STATES = tuple(state for state in STATES if state != "finished")
Point = tuple[str, ...]


class Judgement(NamedTuple):
    """Verdicts that were acted on, and how many slices of promoted checkpoints are worse than promised."""

    cases: Sequence[Case] = ()
    regressed_count: int = 0


class LoopMetrics:
    """Counters of what happens, gauges of the runs that somebody gives: it holds no run."""

    def __init__(self, *, telemetry: Telemetry, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._telemetry, self._now = telemetry, now

    def shown_since(self) -> datetime:
        """Runs that ended before this time are shown no longer."""
        return self._now() - timedelta(seconds=LINGER_S)

    def show(self, views: Iterable[RunView], judgement: Judgement) -> None:
        """Bring the gauges up to date."""
        now = self._now()
        shown = [view for view in views if not _is_past(view, now)]
        runs = sorted(shown, key=lambda view: (view.first_at, view.run_id), reverse=True)
        self._show_states([view for view in runs if not view.is_finished], now)
        self._show_accuracies(runs[:MOST_RUNS])
        self._show_budgets(runs, now)
        self._show_judgement(judgement)

    def count(self, view: RunView | None, envelope: Envelope, message: Message) -> None:
        """One more event; its run's view stands after it, None where the run is not kept."""
        decision = DECISIONS.get(type(message))
        if decision is not None:
            self._telemetry.add("mendloop_decisions", decision=decision)
        step = STEP_OF.get(type(message))
        is_copy = envelope.headers.get("ce_source") == f"/mendloop/{CONTROLLER}"  # a reviewed batch repeats its cost
        if step is None or is_copy:
            return
        metered: common_pb2.Metering = message.metering  # type: ignore[attr-defined]  # every message of STEP_OF has it
        self._telemetry.add("mendloop_gpu_seconds", metered.gpu_s, step=step)
        self._telemetry.add("mendloop_step_seconds", metered.wall_s, step=step)
        self._telemetry.add("mendloop_step_tokens", metered.token_count, step=step)
        if view is None:
            return
        if isinstance(message, evaluation_pb2.EvalCompleted):
            self._time_evaluation(view, message)
        for resource, amount in _burned(view, message, metered, step=step).items():
            self._telemetry.add("mendloop_budget_burned", amount, resource=resource)

    def _time_evaluation(self, view: RunView, message: evaluation_pb2.EvalCompleted) -> None:
        part = view.round_at(message.position.round, message.position.arm)
        if part is None or part.ready is None or part.evaluation is None:
            return
        times = (part.ready.stamp.at, part.evaluation.stamp.at)
        if UNKNOWN_TIME not in times:
            seconds = max(0.0, (times[1] - times[0]).total_seconds())
            self._telemetry.observe("mendloop_evaluation_freshness_seconds", seconds)

    def _show_states(self, runs: Iterable[RunView], now: datetime) -> None:
        counts, silence = Counter(dict.fromkeys(OPEN_STATES, 0)), dict.fromkeys(OPEN_STATES, 0.0)
        for view in runs:
            state = state_of(view)
            counts[state] += 1
            if view.last_at != UNKNOWN_TIME:
                silence[state] = max(silence[state], (now - view.last_at).total_seconds())
        self._telemetry.set_all("mendloop_runs_open", {(state,): float(count) for state, count in counts.items()})
        self._telemetry.set_all("mendloop_run_silence_seconds", {(state,): s for state, s in silence.items()})

    def _show_accuracies(self, runs: Iterable[RunView]) -> None:
        rounds: dict[Point, float] = {}
        slices: dict[Point, float] = {}
        for view in runs:
            measured = [part for part in view.rounds if part.evaluation is not None and not part.arm]
            for part in measured:
                rounds |= _accuracy_points(view.run_id, part)
            if measured:
                slices |= _slice_points(view.run_id, measured[-1])
        self._telemetry.set_all("mendloop_round_accuracy", rounds)
        self._telemetry.set_all("mendloop_slice_accuracy", slices)

    def _show_budgets(self, runs: Iterable[RunView], now: datetime) -> None:
        limit: Counter[str] = Counter()
        spent: Counter[str] = Counter()
        left: dict[str, float] = {}
        for view in runs:
            limits, used = spending.limits(view.recipe), spending.spent(view, now=now)
            limit.update(limits)
            spent.update(used)
            for resource, most in limits.items():
                share = max(0.0, 1 - used[resource] / most)
                left[resource] = min(share, left.get(resource, 1.0))
        self._telemetry.set_all("mendloop_budget_limit", {(name,): amount for name, amount in limit.items()})
        self._telemetry.set_all("mendloop_budget_spent", {(name,): amount for name, amount in spent.items()})
        self._telemetry.set_all("mendloop_budget_left_share", {(name,): share for name, share in left.items()})

    def _show_judgement(self, judgement: Judgement) -> None:
        self._telemetry.set("mendloop_promoted_regressed_slices", judgement.regressed_count)
        found = calibration.calibration(judgement.cases)
        self._telemetry.set("mendloop_calibration_cases", found.n if found else 0)
        if found is None:
            return
        self._telemetry.set("mendloop_calibration_confidence", found.confidence)
        points = (("point", found.improved), ("low", found.interval.low), ("high", found.interval.high))
        self._telemetry.set_all("mendloop_calibration_improved", {(bound,): value for bound, value in points})


def _burned(view: RunView, message: Message, metered: common_pb2.Metering, *, step: str) -> dict[str, float]:
    """The shares of the run's budget that one event's work took."""
    limits = spending.limits(view.recipe)
    teacher_tokens = float(metered.token_count) if step == "data" else 0.0
    is_candidate = message.position.round > 0  # type: ignore[attr-defined]  # every message of STEP_OF has it
    used = {
        "gpu_s": metered.gpu_s,
        "teacher_tokens": teacher_tokens,
        "money": spending.money(view.recipe, Cost(gpu_s=metered.gpu_s), teacher_token_count=teacher_tokens),
        "train_tokens": float(metered.token_count) if step == "training" and is_candidate else 0.0,
        "new_examples": float(getattr(message, "example_count", 0)),
    }
    return {resource: amount / limits[resource] for resource, amount in used.items() if amount and resource in limits}


def _accuracy_points(run_id: str, part: RoundView) -> dict[Point, float]:
    assert part.evaluation is not None
    accuracy = part.evaluation.accuracy
    if accuracy.value is None:
        return {}
    values = (("point", accuracy.value), ("low", accuracy.low), ("high", accuracy.high))
    return {(run_id, str(part.number), bound): value for bound, value in values}


def _slice_points(run_id: str, part: RoundView) -> dict[Point, float]:
    """The weakest slices, by name where two are as weak."""
    assert part.evaluation is not None
    found = [(s.accuracy.value, s.slice.name) for s in part.evaluation.slices if s.accuracy.value is not None]
    return {(run_id, name): value for value, name in sorted(found)[:MOST_SLICES]}


def _is_past(view: RunView, now: datetime) -> bool:
    return view.finish is not None and (now - view.finish.stamp.at).total_seconds() > LINGER_S
