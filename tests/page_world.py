"""Runs for tests of the web page, as a gateway finds them after an afternoon: finished, waiting, failed, at work.

Everything is made from a seed; outcomes, batches and attachments lie in the store, so that every number of an event is
a count of something.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from google.protobuf.message import Message
from page_evidence import fail_and_diagnose
from page_story import (
    FAILED,
    HARD,
    PROMOTED,
    ROUND_RATES,
    TURNS,
    VERBS,
    WAITING,
    WORKING,
    Story,
    checkpoint,
    evaluate,
    outcomes,
    request,
    score,
    store_artifact,
)
from run_events import START, dead_letter

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.core.records import Example, Outcome
from mendloop.core.wire import artifact_ref, slice_message
from mendloop.v1 import checkpoint_pb2, common_pb2, diagnosis_pb2, intervention_pb2, loop_pb2


def ask(story: Story, round: int, *, examples: int) -> str:
    """ApprovalRequested; returns the plan's id."""
    plan_id = f"{story.run_id}-p{round}"
    why = f"108 of 118 failed items lack training data: {examples} new examples for verb=jump and turn=around right"
    held = f"{why}; holds {examples} new_examples, 130000 train_tokens"
    story.tell(loop_pb2.ApprovalRequested(position=story.at(round), plan_id=plan_id, summary=held), after=2)
    return plan_id


def carry_out(story: Story, round: int, plan_id: str, *, examples: int, from_: Artifact) -> None:
    """ApprovalGiven, InterventionPlanned and DataBatchReady."""
    where, drop = story.at(round), intervention_pb2.DropCount
    answer = {"approved_by": "Grace Hopper", "reason": "The evidence is clear and the price small."}
    story.tell(loop_pb2.ApprovalGiven(position=where, plan_id=plan_id, approved=True, **answer), after=64)
    plan = intervention_pb2.InterventionPlanned(
        position=where,
        plan_id=plan_id,
        kind=diagnosis_pb2.INTERVENTION_KIND_DATA,
        items=[
            intervention_pb2.PlanItem(
                slice=slice_message([pair]), example_count=examples // 2, cause=diagnosis_pb2.CAUSE_DATA_MISSING
            )
            for pair in HARD
        ],
        checkpoint=artifact_ref(from_),
        train_token_limit=130_000,
        replay_share=0.7,
        rationale="108 of 118 failed items lack training data",
    )
    story.tell(plan, after=0.3)
    rows = [
        Example(
            f"jump {TURNS[n % 6]} twice and {VERBS[n % 3]}",
            f"I_TURN_RIGHT I_JUMP I_{VERBS[n % 3].upper()}",
            "pool",
            axes={"verb": ("jump",)},
        )
        for n in range(examples)
    ]
    drops = [
        ("decontamination", "shares 13 words with an evaluation item", 9),
        ("decontamination", "is an evaluation item", 2),
        ("near-duplicates", "more than .8 alike to one that is kept", 41),
        ("verified answer", "the program refutes the answer", 5),
        ("student window", "the student solves it always", 17),
        ("budget", "enough of this slice", 23),
    ]
    batch = intervention_pb2.DataBatchReady(
        position=where,
        batch=artifact_ref(put_rows(story.store, rows, kind=Example)),
        example_count=examples,
        drops=[drop(stage=stage, reason=reason, count=count) for stage, reason, count in drops],
        metering=common_pb2.Metering(wall_s=3.2),
        plan=plan,
    )
    first = round - 1
    sources = [f"diagnosis:{story.run_id}-e{first}/{slice_message([pair]).slice_id}" for pair in HARD]
    story.node(f"plan:{plan_id}", *sources, kind="data")
    story.node(f"batch:{story.run_id}-{round}", f"plan:{plan_id}", example_count=examples)
    story.tell(batch, after=5)


def decide(
    story: Story,
    round: int,
    rows: Sequence[Outcome],
    before: Sequence[Outcome],
    *,
    promote: bool,
    candidate: Artifact,
    other: Artifact,
) -> None:
    """CheckpointPromoted or CheckpointRejected with the gates' numbers."""
    gates = [
        gate("target_improves", pair, rows, before, requirement="better, p < 0.05 by exact McNemar") for pair in HARD
    ]
    gates += [
        gate("protected_non_inferior", pair, rows, before, requirement="a loss of 5 points ruled out")
        for pair in (("verb", "walk"), ("verb", "look"), ("turn", "left"))
    ]
    gates.append(
        checkpoint_pb2.GateResult(
            gate="sealed_agrees",
            passed=promote,
            n=120,
            requirement="query 1 of 10: better on sealed items of the targets; no figures are given out",
        )
    )
    message: Message
    if promote:
        message = checkpoint_pb2.CheckpointPromoted(
            position=story.at(round), checkpoint=artifact_ref(candidate), replaced=artifact_ref(other), gates=gates
        )
    else:
        message = checkpoint_pb2.CheckpointRejected(
            position=story.at(round),
            checkpoint=artifact_ref(candidate),
            rolled_back_to=artifact_ref(other),
            gates=gates,
            reason="target_improves failed on turn=around right",
        )
    story.node(f"gate:{story.run_id}-{round}", f"evaluation:{story.run_id}-e{round}", promoted=promote)
    story.tell(message, after=1)


def gate(
    name: str, pair: tuple[str, str], rows: Sequence[Outcome], before: Sequence[Outcome], *, requirement: str
) -> checkpoint_pb2.GateResult:
    """One gate over a slice: a target must gain, a protected one must not lose the margin."""
    (right, n), (earlier, _) = score(rows, **dict([pair])), score(before, **dict([pair]))
    gain, width = (right - earlier) / n, 0.045
    passed = gain - width > (0 if name == "target_improves" else -0.05)
    p_value = 0.0000021 if gain > 0.1 else 0.011 if passed else 0.31
    return checkpoint_pb2.GateResult(
        gate=name,
        slice=slice_message([pair]),
        passed=passed,
        n=n,
        before=earlier / n,
        after=right / n,
        low=gain - width,
        high=min(1.0, gain + width),
        p_value=p_value,
        requirement=requirement,
    )


def promoted_story(store: ArtifactStore, begin: datetime) -> Story:
    """Two rounds with a control arm: the first candidate is rejected, the second promoted."""
    story = Story(PROMOTED, store, begin)
    request(story, "scan-jump")
    base = checkpoint(story, 0)
    seen = outcomes(1, ROUND_RATES[0])
    fail_and_diagnose(story, evaluate(story, base, seen, weak=2), seen)
    standing = store_artifact(base)
    for round, promote in ((1, False), (2, True)):
        plan_id = ask(story, round, examples=64)
        carry_out(story, round, plan_id, examples=64, from_=standing)
        control = checkpoint(story, round, "random data", baseline=standing)
        evaluate(story, control, outcomes(20 + round, ROUND_RATES[0] | {"jump": 0.06}), weak=0)
        candidate = checkpoint(story, round, baseline=standing)
        rows = outcomes(round + 1, ROUND_RATES[round])
        evaluation_id = evaluate(story, candidate, rows, weak=0 if promote else 2)
        decide(story, round, rows, seen, promote=promote, candidate=store_artifact(candidate), other=standing)
        if not promote:
            fail_and_diagnose(story, evaluation_id, rows, round=round)
    summary = "the candidate of round 2 passed every gate and replaces the base"
    story.tell(
        loop_pb2.LoopFinished(
            position=story.at(2),
            outcome=loop_pb2.LOOP_OUTCOME_PROMOTED,
            checkpoint=candidate.checkpoint,
            summary=summary,
        ),
        after=1,
    )
    return story


def begun_story(run_id: str, name: str, store: ArtifactStore, begin: datetime, *, diagnosed: int) -> Story:
    """A run up to the diagnosis of so many of its two weak slices."""
    story = Story(run_id, store, begin)
    request(story, name)
    base = checkpoint(story, 0)
    rows = outcomes(1, ROUND_RATES[0])
    fail_and_diagnose(story, evaluate(story, base, rows, weak=2), rows, diagnosed=diagnosed)
    return story


def waiting_story(store: ArtifactStore, begin: datetime) -> Story:
    """A run that waits for the approval of its first plan."""
    story = begun_story(WAITING, "scan-turns", store, begin, diagnosed=2)
    ask(story, 1, examples=64)
    return story


def failed_story(store: ArtifactStore, begin: datetime) -> Story:
    """A run whose first evaluation became a dead letter."""
    story = Story(FAILED, store, begin)
    request(story, "modular-eos")
    checkpoint(story, 0)
    offset = (begin - START).total_seconds() + story.second + 3
    letter = dead_letter(story.events[-1], handler="evaluator", second=offset)
    story.events.append(letter)
    end = "evaluator refused CheckpointReady: the checkpoint has no tokenizer"
    story.tell(loop_pb2.LoopFinished(position=story.at(0), outcome=loop_pb2.LOOP_OUTCOME_FAILED, summary=end), after=4)
    return story


def small_stories(store: ArtifactStore, begin: datetime, count: int) -> list[Story]:
    """Runs that end after their first evaluation."""
    ends = (loop_pb2.LOOP_OUTCOME_HEALTHY, loop_pb2.LOOP_OUTCOME_ABSTAINED, loop_pb2.LOOP_OUTCOME_CANCELLED)
    stories = []
    for n in range(count):
        story = Story(f"nightly-{n:04}", store, begin - timedelta(hours=7 * n))
        request(story, "nightly-scan", approval=False)
        evaluate(story, checkpoint(story, 0), outcomes(50 + n, {}), weak=0)
        words = ("no slice is weak", "no cause stands out", "cancelled by Ada Lovelace")[n % 3]
        story.tell(loop_pb2.LoopFinished(position=story.at(0), outcome=ends[n % 3], summary=words), after=2)
        stories.append(story)
    return stories


def stories(store: ArtifactStore, *, now: datetime | None = None, small: int = 6) -> list[Story]:
    """Every run of the world, oldest first where that matters to nobody."""
    at = now or datetime.now(UTC)
    return [
        *small_stories(store, at - timedelta(hours=9), small),
        promoted_story(store, at - timedelta(minutes=47)),
        failed_story(store, at - timedelta(minutes=21)),
        waiting_story(store, at - timedelta(minutes=6)),
        begun_story(WORKING, "scan-length", store, at - timedelta(minutes=2.2), diagnosed=1),
    ]
