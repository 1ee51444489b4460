"""Runs for tests of the web page, as a gateway finds them after an afternoon: finished, waiting, failed, at work.

Everything is made from a seed; outcomes, batches and attachments lie in the store, so that every number of an event is
a count of something.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import builders
from google.protobuf.message import Message
from run_events import START, dead_letter, sent

from mendloop.artifacts.lineage import Node, record
from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.core.events import Envelope
from mendloop.core.recipe import Recipe
from mendloop.core.records import Example, Outcome
from mendloop.core.wire import artifact_ref, proportion, slice_message
from mendloop.v1 import checkpoint_pb2, common_pb2, diagnosis_pb2, evaluation_pb2, intervention_pb2, loop_pb2

VERBS = ("walk", "look", "run", "jump")
TURNS = ("left", "right", "around left", "around right", "opposite left", "opposite right")
HARD = (("verb", "jump"), ("turn", "around right"))
WAITING, PROMOTED, FAILED, WORKING = "scan-turns-51c0", "scan-jump-7f3a", "modular-eos-9d44", "scan-length-2b9e"
ROUND_RATES = (
    {"jump": 0.02, "around right": 0.1},
    {"jump": 0.3, "around right": 0.12},
    {"jump": 0.86, "around right": 0.78},
)


@dataclass
class Story:
    """The events of one run, some seconds apart, and the store that they point into."""

    run_id: str
    store: ArtifactStore
    begin: datetime
    events: list[Envelope] = field(default_factory=list)
    second: float = 0.0

    def tell(self, message: Message, *, after: float = 8.0) -> Envelope:
        """The next event, so many seconds after the last."""
        self.second += after
        offset = (self.begin - START).total_seconds() + self.second
        self.events.append(sent(message, second=offset, event_id=f"{self.run_id}/{len(self.events)}"))
        return self.events[-1]

    def at(self, round: int, arm: str = "") -> common_pb2.RunPosition:
        """A place in the run."""
        return common_pb2.RunPosition(run_id=self.run_id, round=round, arm=arm)

    def keep(self, document: object, kind: str = "application/json") -> common_pb2.ArtifactRef:
        """A JSON artifact."""
        return artifact_ref(self.store.put(json.dumps(document, sort_keys=True).encode(), media_type=kind))

    def node(self, name: str, *inputs: str, **facts: object) -> None:
        """A step of the lineage."""
        record(self.store, Node(name, self.run_id, inputs, facts))


def request(story: Story, name: str, *, rounds: int = 2, approval: bool = True) -> None:
    """LoopRequested with a recipe that can be read."""
    suite = {"axes": ["verb", "turn"], "search": 240, "confirm": 120}
    recipe = Recipe.model_validate(
        {
            "name": name,
            "task": "scan",
            "base": {"model": "package:scan"},
            "suite": suite,
            "rounds": rounds,
            "approval": approval,
            "budget": {"new_examples": 256, "train_tokens": 600_000, "wall_s": 3600},
        }
    )
    nothing = builders.NO_ARTIFACT
    document = {"recipe": recipe.model_dump(mode="json"), "base": {"uri": nothing.uri, "sha256": nothing.sha256}}
    spec = story.keep(document, "application/vnd.mendloop.run-spec+json")
    story.tell(loop_pb2.LoopRequested(position=story.at(0), run_spec=spec, requested_by="Ada Lovelace"), after=0)


def checkpoint(
    story: Story, round: int, arm: str = "", *, baseline: Artifact | None = None
) -> checkpoint_pb2.CheckpointReady:
    """CheckpointReady: the base in round 0, else a candidate."""
    made = story.store.put(f"{story.run_id}/{round}/{arm}".encode(), media_type="application/octet-stream")
    sources = [f"batch:{story.run_id}-{round}"] if round and not arm else []
    story.node(f"checkpoint:{made.sha256}", *sources, kind="candidate" if round else "base", round=round)
    ready = checkpoint_pb2.CheckpointReady(
        position=story.at(round, arm),
        checkpoint=artifact_ref(made),
        kind=checkpoint_pb2.CHECKPOINT_KIND_CANDIDATE if round else checkpoint_pb2.CHECKPOINT_KIND_BASE,
        baseline=artifact_ref(baseline) if baseline else None,
        metering=common_pb2.Metering(wall_s=41 if round else 3, token_count=118_400 if round else 0, flops=7.9e11),
        diagnosis_wanted=not arm,
    )
    story.tell(ready, after=46)
    return ready


def outcomes(seed: int, rates: dict[str, float]) -> list[Outcome]:
    """240 answers; jump and around right are right as often as rates say, everything else at 96 %."""
    draw, rows = random.Random(seed), []
    for n in range(240):
        verb, turn = VERBS[n % 4], TURNS[n // 4 % 6]
        luck = random.Random(f"{n}").random()  # an item keeps its difficulty, so that rounds can be compared in pairs
        is_right = 0.8 * luck + 0.2 * draw.random() < min(rates.get(verb, 0.96), rates.get(turn, 0.96))
        actions = [f"I_TURN_{turn.split()[-1].upper()}"] * (1 + n % 2) + [f"I_{verb.upper()}"] * (1 + n % 3)
        said = actions if is_right else [a for i, a in enumerate(actions) if i % 2] + ["I_WALK"]
        row = builders.outcome(
            f"item-{n:03}",
            split="search" if n % 3 else "confirm",
            prompt=f"{verb} {turn} {('twice', 'thrice', 'and look')[n % 3]}",
            target=" ".join(actions),
            output=" ".join(said),
            score=float(is_right),
            stop_reason="eos" if n % 7 else "length",
            axes={"verb": (verb,), "turn": (turn,)},
        )
        rows.append(row)
    return rows


def score(rows: Sequence[Outcome], **axes: str) -> tuple[int, int]:
    """Right answers and items of a slice."""
    inside = [row for row in rows if all(value in row.axes[axis] for axis, value in axes.items())]
    return sum(row.is_correct for row in inside), len(inside)


def evaluate(story: Story, ready: checkpoint_pb2.CheckpointReady, rows: Sequence[Outcome], *, weak: int) -> str:
    """EvalCompleted over the rows; returns the evaluation's id."""
    place = ready.position
    evaluation_id = f"{story.run_id}-e{place.round}{place.arm}"
    singles = [("verb", verb) for verb in VERBS] + [("turn", turn) for turn in TURNS]
    stored = put_rows(story.store, rows, kind=Outcome)
    message = evaluation_pb2.EvalCompleted(
        position=place,
        evaluation_id=evaluation_id,
        checkpoint_ready=ready,
        outcomes=artifact_ref(stored),
        accuracy=proportion(*score(rows)),
        slices=[
            evaluation_pb2.SliceScore(slice=slice_message([pair]), accuracy=proportion(*score(rows, **dict([pair]))))
            for pair in singles
        ],
        weak_slice_count=weak,
        metering=common_pb2.Metering(wall_s=12, token_count=5_700),
    )
    facts = {"accuracy": score(rows)[0] / len(rows)}
    story.node(f"evaluation:{evaluation_id}", f"checkpoint:{ready.checkpoint.sha256}", **facts)
    story.tell(message, after=14)
    return evaluation_id


def fail_and_diagnose(
    story: Story, evaluation_id: str, rows: Sequence[Outcome], *, round: int = 0, diagnosed: int = 2
) -> None:
    """EvalFailed for both hard slices, and DiagnosisReady for the first so many."""
    for pair in HARD:
        axes = dict([pair])
        split = {name: [row for row in rows if row.split == name] for name in ("search", "confirm")}
        story.tell(
            evaluation_pb2.EvalFailed(
                position=story.at(round),
                evaluation_id=evaluation_id,
                slice=slice_message([pair]),
                accuracy=proportion(*score(split["search"], **axes)),
                confirmation=proportion(*score(split["confirm"], **axes)),
                p_value=3.1e-14,
                q_value=2.2e-13,
                threshold=0.8,
                example_ids=[row.item_id for row in rows if not row.is_correct][:20],
                weak_slice_count=2,
            ),
            after=0.4,
        )
        place = f"{evaluation_id}/{slice_message([pair]).slice_id}"
        story.node(f"failure:{place}", f"evaluation:{evaluation_id}", slice=f"{pair[0]}={pair[1]}")
    for pair in HARD[:diagnosed]:
        story.tell(diagnosis(story, evaluation_id, pair, round=round), after=19)
        place = f"{evaluation_id}/{slice_message([pair]).slice_id}"
        story.node(f"diagnosis:{place}", f"failure:{place}", cause="DATA_MISSING")


def diagnosis(story: Story, evaluation_id: str, pair: tuple[str, str], *, round: int) -> diagnosis_pb2.DiagnosisReady:
    """DiagnosisReady: data is missing, with a heat map and attributed examples."""
    name, row = f"{pair[0]}={pair[1]}", diagnosis_pb2.Evidence
    score = diagnosis_pb2.CauseScore
    return diagnosis_pb2.DiagnosisReady(
        position=story.at(round),
        evaluation_id=evaluation_id,
        slice=slice_message([pair]),
        cause=diagnosis_pb2.CAUSE_DATA_MISSING,
        family=diagnosis_pb2.CAUSE_FAMILY_DATA,
        confidence=0.94,
        evidence=[
            row(probe="coverage", measurement="slice_share", value=0.0004, low=0.0, high=0.0021, n=6200, reading=f"Of 6,200 training examples 3 lie in {name}; of the items 25 % do."),
            row(probe="forced_stop", measurement="rescued_share[a]", value=0.02, low=0.0005, high=0.11, n=49, reading="Stopping the output at the target's length makes 1 of 49 right: the model does stop."),
            row(probe="few_shot", measurement="rescued_share[a]", value=0.08, low=0.02, high=0.2, n=49, reading="With four solved examples in the prompt 4 of 49 are right."),
            row(probe="scorer_check", measurement="wrongly_failed_share", value=0.0, low=0.0, high=0.06, n=60, reading="The scorer failed none of 60 right references."),
            row(probe="patching", measurement="layer", value=2, low=2, high=2, n=20, reading="Of the places that do not carry the whole passing run over, layer 2 of 4 at the last token restores most.", attachment=story.keep({"kind": "heat_map", "name": "heat_map", "document": heat_map()})),
            row(probe="attribution", measurement="same_slice_share[a]", value=0.05, low=0.001, high=0.25, n=20, reading=f"1 of the 20 training examples that speak most for the wrong outputs lies in {name}.", attachment=story.keep({"kind": "examples", "name": "training examples, sample a", "document": attributed()})),
            row(probe="earlier_checkpoint", measurement="was_right_share", n=0, reading="There is no earlier checkpoint of this run."),
        ],
        scores=[score(cause=diagnosis_pb2.CAUSE_DATA_MISSING, score=0.94), score(cause=diagnosis_pb2.CAUSE_DATA_SKEW, score=0.31), score(cause=diagnosis_pb2.CAUSE_REASONING_GAP, score=0.12), score(cause=diagnosis_pb2.CAUSE_EOS_MASKED, score=0.02)],
        interventions=[diagnosis_pb2.ProposedIntervention(kind=diagnosis_pb2.INTERVENTION_KIND_DATA, rationale=f"Add verified examples of {name}; replay the rest.")],
        failed_count=54,
        weak_slice_count=2,
        metering=common_pb2.Metering(wall_s=17, token_count=2_100),
        summary=f"The training data has almost none of {name}: 3 of 6,200 examples, where a quarter of the items need it. Neither stopping, scoring nor prompting explains the failures.",
    )  # fmt: skip


def heat_map() -> dict[str, object]:
    """What activation patching attaches."""
    values = [[0.0, 0.02, 0.04, None], [0.08, 0.31, 0.22, 0.05], [0.12, 0.74, 0.83, 0.18], [-0.06, 0.41, 0.92, 0.55]]
    example = {"layers": [0, 1, 2, 3], "positions": ["jump ← walk", "around", "right", "→"], "values": values, "right": "I_JUMP", "wrong": "I_WALK", "clean_next": "I_TURN_RIGHT"}  # fmt: skip
    positions = ["differing words", "after them", "last token", "the answer so far"]
    return {"layers": [0, 1, 2, 3], "positions": positions, "values": values, "pairs": 20, "example": example}


def attributed() -> dict[str, object]:
    """What the attribution probe attaches."""
    rows = [["proponent", 0.42 - 0.03 * n, 7.1 - 0.2 * n, "no", "right", f"walk {TURNS[n % 6]}", "I_TURN_RIGHT I_WALK"] for n in range(9)]  # fmt: skip
    return {"columns": ["side", "influence", "BM25", "in slice", "label", "prompt", "completion"], "rows": rows}


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
        Example(f"jump {TURNS[n % 6]} twice and {VERBS[n % 3]}", f"I_TURN_RIGHT I_JUMP I_{VERBS[n % 3].upper()}", "pool", axes={"verb": ("jump",)})
        for n in range(examples)
    ]  # fmt: skip
    drops = [("decontamination", "shares 13 words with an evaluation item", 9), ("decontamination", "is an evaluation item", 2), ("near-duplicates", "more than .8 alike to one that is kept", 41), ("verified answer", "the program refutes the answer", 5), ("student window", "the student solves it always", 17), ("budget", "enough of this slice", 23)]  # fmt: skip
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


def decide(story: Story, round: int, rows: Sequence[Outcome], before: Sequence[Outcome], *, promote: bool, candidate: Artifact, other: Artifact) -> None:  # fmt: skip
    """CheckpointPromoted or CheckpointRejected with the gates' numbers."""
    gates = [gate("target_improves", pair, rows, before, requirement="better, p < 0.05 by exact McNemar") for pair in HARD]  # fmt: skip
    gates += [gate("protected_non_inferior", pair, rows, before, requirement="a loss of 5 points ruled out") for pair in (("verb", "walk"), ("verb", "look"), ("turn", "left"))]  # fmt: skip
    gates.append(checkpoint_pb2.GateResult(gate="sealed_agrees", passed=promote, n=120, requirement="query 1 of 10: better on sealed items of the targets; no figures are given out"))  # fmt: skip
    message: Message
    if promote:
        message = checkpoint_pb2.CheckpointPromoted(position=story.at(round), checkpoint=artifact_ref(candidate), replaced=artifact_ref(other), gates=gates)  # fmt: skip
    else:
        message = checkpoint_pb2.CheckpointRejected(position=story.at(round), checkpoint=artifact_ref(candidate), rolled_back_to=artifact_ref(other), gates=gates, reason="target_improves failed on turn=around right")  # fmt: skip
    story.node(f"gate:{story.run_id}-{round}", f"evaluation:{story.run_id}-e{round}", promoted=promote)
    story.tell(message, after=1)


def gate(name: str, pair: tuple[str, str], rows: Sequence[Outcome], before: Sequence[Outcome], *, requirement: str) -> checkpoint_pb2.GateResult:  # fmt: skip
    """One gate over a slice: a target must gain, a protected one must not lose the margin."""
    (right, n), (earlier, _) = score(rows, **dict([pair])), score(before, **dict([pair]))
    gain, width = (right - earlier) / n, 0.045
    passed = gain - width > (0 if name == "target_improves" else -0.05)
    p_value = 0.0000021 if gain > 0.1 else 0.011 if passed else 0.31
    return checkpoint_pb2.GateResult(gate=name, slice=slice_message([pair]), passed=passed, n=n, before=earlier / n, after=right / n, low=gain - width, high=min(1.0, gain + width), p_value=p_value, requirement=requirement)  # fmt: skip


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
    story.tell(loop_pb2.LoopFinished(position=story.at(2), outcome=loop_pb2.LOOP_OUTCOME_PROMOTED, checkpoint=candidate.checkpoint, summary=summary), after=1)  # fmt: skip
    return story


def store_artifact(ready: checkpoint_pb2.CheckpointReady) -> Artifact:
    """The checkpoint of an event."""
    made = ready.checkpoint
    return Artifact(made.uri, made.sha256, made.byte_count, made.media_type)


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
    story.events.append(replace(letter))
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
