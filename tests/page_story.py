"""The story of one run for tests of the web page: events some seconds apart, and the artifacts that they point to."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import builders
from google.protobuf.message import Message
from run_events import START, sent

from mendloop.artifacts.lineage import Node, record
from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.core.events import Envelope
from mendloop.core.recipe import Recipe
from mendloop.core.records import Outcome
from mendloop.core.wire import artifact_ref, proportion, slice_message
from mendloop.v1 import checkpoint_pb2, common_pb2, evaluation_pb2, loop_pb2

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


def store_artifact(ready: checkpoint_pb2.CheckpointReady) -> Artifact:
    """The checkpoint of an event."""
    made = ready.checkpoint
    return Artifact(made.uri, made.sha256, made.byte_count, made.media_type)


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
