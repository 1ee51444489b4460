"""Draws runs on the terminal: where each one is, what was found, what was decided. Knows run views; knows no bus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from mendloop.report.arms import arm_words
from mendloop.report.summary import Document
from mendloop.runs.model import RoundView, RunView
from mendloop.runs.parts import Failure
from mendloop.runs.stages import seconds_by_stage, stage_of, state_of

_PATH = ("base training", "evaluation", "diagnosis", "planning", "generation", "training", "evaluation", "gates")
_GOOD, _BAD, _SOFT = "green", "red", "dim"


def run_panel(view: RunView) -> Panel:
    """One run: its stages with seconds, and the newest facts."""
    lines: list[RenderableType] = [_stage_line(view), *(_fact(text) for text in facts(view))]
    title = f"[bold]{view.run_id}[/bold] {state_of(view)}" + (f", round {view.current_round}" if view.rounds else "")
    return Panel(Group(*lines), title=title, title_align="left", border_style=_GOOD if view.is_finished else "blue")


def runs_panel(views: Sequence[RunView], *, note: str = "") -> Group:
    """Several runs below one another, with a line about the services."""
    return Group(*(run_panel(view) for view in views), Text(note, style=_SOFT))


def run_table(views: Iterable[RunView]) -> Table:
    """`mend status`: a line a run. The column of control arms stands where a run has any."""
    views = list(views)
    names = ["run", "recipe", "state", "round", "accuracy", "weak slices", "verdicts", "outcome", "seconds"]
    has_arms = any(view.controls for view in views)
    table = Table(box=None)
    for name in [*names, *(["main - control, points"] if has_arms else [])]:
        table.add_column(name, overflow="fold", no_wrap=name == "state")
    for view in views:
        evaluated = [part.evaluation for part in view.main if part.evaluation is not None]
        accuracy = " → ".join(f"{e.accuracy.value or 0:.3f}" for e in evaluated)
        causes = sorted({diagnosis.cause for part in view.rounds for diagnosis in part.diagnoses})
        seconds = sum(seconds_by_stage(view, now=datetime.now(UTC)).values())
        table.add_row(
            view.run_id,
            view.recipe_name,
            state_of(view),
            str(view.current_round),
            accuracy,
            "\n".join(f"{failure.slice.name}{trend_words(failure)}" for failure in _last_failures(view)),
            ", ".join(causes),
            view.outcome,
            f"{seconds:.0f}",
            *(["\n".join(arm_words(view))] if has_arms else []),
        )
    return table


def _last_failures(view: RunView) -> list[Failure]:
    """Each weak slice of a run as it was last found."""
    return list({failure.slice.slice_id: failure for part in view.rounds for failure in part.failures}.values())


def result_table(summaries: Sequence[Document]) -> Table:
    """What the runs found, did and decided."""
    table = Table(
        "run", "verdict (confidence)", "intervention", "weak slice: before → after", "gates", "seconds", title="Result"
    )
    for summary in summaries:
        verdicts = "\n".join(f"{v['slice']}: {v['cause']} ({v['confidence']:.2f})" for v in summary["verdicts"])
        plans = "\n".join(_plan_words(plan) for plan in summary["plans"]) or "none"
        targets = "\n".join(_change_words(row) for row in summary["slices"] if row["is_target"])
        style = _GOOD if summary["gate_decision"] == "promoted" else _BAD
        table.add_row(
            summary["run_id"],
            verdicts,
            plans,
            targets,
            Text(summary["gate_decision"], style=style),
            f"{summary['seconds']:.0f}",
        )
    return table


def facts(view: RunView) -> list[str]:
    """What happened so far, a sentence a fact."""
    lines = [line for part in view.main for line in _round_facts(part)]
    lines += [f"control {words}" for words in arm_words(view)]
    lines += [f"dead letter from {letter.handler}: {letter.reason}" for letter in view.dead_letters]
    lines += [f"budget exceeded: {stop.resource}" for stop in view.budget_stops]
    if view.summary:
        lines.append(f"{view.outcome}: {view.summary}")
    return lines


def _review_facts(part: RoundView) -> list[str]:
    if part.reviewed is not None and part.review_answer is not None:
        by = part.review_answer.approved_by or "a person"
        return [f"{by} left {part.reviewed.example_count} of them"]
    if part.review_answer is not None and not part.review_answer.approved:
        return [f"{part.review_answer.approved_by or 'a person'} refused them"]
    if part.review_question is None or part.batch is None or part.batch.artifact is None:
        return []
    name = part.batch.artifact.sha256[:12]
    return [f"they wait for a review: mend export {name} --to FOLDER, then mend import FILE --for {name} --approve"]


def _round_facts(part: RoundView) -> list[str]:
    lines = []
    if part.plan is not None:
        lines.append(f"round {part.number}: {part.plan.kind.replace('_', ' ')}: {part.plan.rationale}")
    if part.batch is not None:
        dropped = sum(drop.count for drop in part.batch.drops)
        lines.append(f"{part.batch.example_count} new examples, {dropped} candidates dropped")
        lines += _review_facts(part)
    if part.evaluation is None and part.shard_count:
        lines.append(f"scored {part.shards_done} of {part.shard_count} shards")
    if part.evaluation is not None:
        accuracy = part.evaluation.accuracy
        lines.append(
            f"accuracy {accuracy.value or 0:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}] on {accuracy.n} items"
        )
    for failure in part.failures:
        lines.append(
            f"weak slice {failure.slice.name}: {failure.accuracy.correct} of {failure.accuracy.n} right"
            + trend_words(failure)
        )
    for diagnosis in part.diagnoses:
        lines.append(f"{diagnosis.slice.name}: {diagnosis.cause} (confidence {diagnosis.confidence:.2f})")
    if part.decision is not None:
        failed = [gate.gate for gate in part.decision.gates if not gate.passed]
        passed = len(part.decision.gates) - len(failed)
        lines.append(f"gates: {passed} passed" + (f", {len(failed)} failed" if failed else ""))
    return lines


def trend_words(failure: Failure) -> str:
    """The slice's accuracy over the checkpoints so far, e.g. ` (over rounds: .500 → .620)`; nothing in the first."""
    if not failure.trend:
        return ""
    points = [*(point.accuracy for point in failure.trend), failure.both]
    return f" (over rounds: {' → '.join(f'{point.value or 0:.3f}' for point in points)})"


def _stage_line(view: RunView) -> Text:
    seconds, working = seconds_by_stage(view, now=datetime.now(UTC)), stage_of(view)
    line = Text()
    for stage in dict.fromkeys(_PATH):
        if stage not in seconds and stage != working:
            line.append(f"○ {stage}  ", style=_SOFT)
        elif stage == working:
            line.append(f"● {stage} {seconds.get(stage, 0):.0f} s  ", style="bold blue")
        else:
            line.append(f"✓ {stage} {seconds[stage]:.1f} s  ", style=_GOOD)
    return line


def _fact(text: str) -> Text:
    return Text(f"  {text}")


def _plan_words(plan: Document) -> str:
    if plan["kind"] == "data":
        made = plan["batch"]["example_count"] if plan["batch"] else 0
        return f"data: {made} new examples"
    return f"{plan['kind'].replace('_', ' ')}: {', '.join(plan['fixes'])}"


def _change_words(row: Document) -> str:
    before, after = row["before"], row["after"]
    if after is None:
        return f"{row['slice']}: {before['accuracy']:.3f}"
    return (
        f"{row['slice']}: {before['accuracy']:.3f} → {after['accuracy']:.3f} [{after['low']:.3f}, {after['high']:.3f}]"
    )
