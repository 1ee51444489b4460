"""Control arms in the view of a run, in its page and in `mend status`: beside the main arm, never in its place."""

from __future__ import annotations

import random
from functools import reduce
from pathlib import Path

from rich.console import Console
from run_events import JUMP, batch, data_run, evaluated, planned, ready, ref, sent

from mendloop.artifacts.store import ArtifactStore
from mendloop.cli.live import facts, run_table
from mendloop.core.events import Envelope
from mendloop.report.page import render
from mendloop.report.summary import Document, summarize
from mendloop.runs.document import to_document
from mendloop.runs.fold import fold
from mendloop.runs.model import RunView
from mendloop.runs.stages import seconds_by_stage, stage_of
from mendloop.v1 import arms_pb2, common_pb2

ALL = arms_pb2.ArmDifference(n=60, only_main=25, only_control=1, both=30, low=0.26, high=0.53, p_value=8e-7)
ON_JUMP = arms_pb2.ArmDifference(
    slice=JUMP, n=30, only_main=24, only_control=0, both=1, low=0.62, high=0.9, p_value=1e-7
)


def place(arm: str) -> common_pb2.RunPosition:
    return common_pb2.RunPosition(run_id="r1", round=1, arm=arm)


def compared(arm: str = "random") -> arms_pb2.ArmCompared:
    return arms_pb2.ArmCompared(
        position=place(arm),
        plan_id="p2",
        result=arms_pb2.ARM_RESULT_COMPARED,
        reason="against random: ...",
        checkpoint=ref("e"),
        main_checkpoint=ref("c"),
        differences=[ALL, ON_JUMP],
        example_count=30,
        main_example_count=30,
        train_token_count=990,
        main_train_token_count=1000,
    )


def work_of_control() -> list[Envelope]:
    """Plan, batch, candidate and evaluation of the arm random, at work beside the main arm."""
    plan, made = planned(), batch()
    made.plan.CopyFrom(plan)
    candidate, measured = ready(round=1, letter="e"), evaluated(round=1, letter="e", correct=31, weak=0)
    found = []
    for at, message in enumerate((plan, made, candidate, measured)):
        message.position.CopyFrom(place("random"))
        found.append(sent(message, second=14.5 + at, event_id=f"arm/{at}"))
    return found


def whole_run() -> list[Envelope]:
    left_out = arms_pb2.ArmCompared(
        position=place("oracle"), result=arms_pb2.ARM_RESULT_LEFT_OUT, reason="left out, no <b>money</b>"
    )
    said = [sent(compared(), second=18.2, event_id="c1"), sent(left_out, second=13.1, event_id="c2")]
    return [*data_run()[:-1], *work_of_control(), *said, sent_last()]


def sent_last() -> Envelope:
    return data_run()[-1]


def view_of(events: list[Envelope]) -> RunView:
    view: RunView | None = reduce(fold, events, None)
    assert view is not None
    return view


def summary_of(folder: Path, events: list[Envelope]) -> Document:
    return summarize(view_of(events), store=ArtifactStore(folder))


def test_control_arms_stand_beside_the_main_arm_whatever_the_order() -> None:
    events = whole_run()
    view = view_of(events)
    random.Random(3).shuffle(events)

    assert view_of(events) == view
    assert [(part.number, part.arm) for part in view.main] == [(0, ""), (1, "")]
    assert [part.arm for part in view.controls] == ["oracle", "random"]
    comparison = view.controls[1].comparison
    assert comparison is not None
    assert (comparison.result, comparison.differences[1].main.correct, comparison.differences[1].control.correct) == (
        "compared",
        25,
        1,
    )
    document = to_document(view)
    assert document["outcome"] == "promoted"


def test_figures_of_a_run_with_controls_are_those_of_the_main_arm(tmp_path: Path) -> None:
    plain, told = summary_of(tmp_path, data_run()), summary_of(tmp_path, whole_run())

    same = ("slices", "plans", "gates", "gate_decision", "verdicts", "checkpoint", "trends", "summary")
    assert {name: plain[name] for name in same} == {name: told[name] for name in same}
    assert told["budget"]["new_examples"] == plain["budget"]["new_examples"]
    assert told["budget"]["train_tokens"]["used"] == 2 * plain["budget"]["train_tokens"]["used"] == 2000
    assert plain["arms"] == []


def test_page_shows_each_control_with_difference_interval_and_p(tmp_path: Path) -> None:
    summary = summary_of(tmp_path, whole_run())
    page = render([summary], title="t", subtitle="s")

    assert [(arm["arm"], arm["result"]) for arm in summary["arms"]] == [("oracle", "left_out"), ("random", "compared")]
    assert "+0.800 [+0.620, +0.900]" in page
    assert "1e-07" in page
    assert "990 (1000)" in page
    assert "left out, no &lt;b&gt;money&lt;/b&gt;" in page
    assert "Control arms" not in render([summary_of(tmp_path, data_run())], title="t", subtitle="s")


def test_status_has_a_column_of_controls_where_a_run_has_any() -> None:
    def printed(events: list[Envelope]) -> str:
        console = Console(width=300)
        with console.capture() as capture:
            console.print(run_table([view_of(events)]))
        return capture.get()

    text = printed(whole_run())
    assert "random: verb=jump +80.0 [+62.0, +90.0]" in text
    assert "oracle: left out" in text
    assert "control" not in printed(data_run())
    assert "control random: verb=jump +80.0 [+62.0, +90.0]" in facts(view_of(whole_run()))


def test_control_at_work_is_the_stage_that_works_and_has_no_gates() -> None:
    events = [*data_run()[:-1], *work_of_control()[:2]]
    assert stage_of(view_of(events)) == "training"
    text = [line for line in facts(view_of(events)) if line.startswith("control")]
    assert text == ["control random: at work"]
    gates = seconds_by_stage(view_of([*data_run()[:-1], *work_of_control()]))["gates"]
    assert gates == seconds_by_stage(view_of(data_run()))["gates"]
