"""Weak slices and their diagnoses for tests of the web page, with what probes attach."""

from __future__ import annotations

from collections.abc import Sequence

from page_story import HARD, TURNS, Story, score

from mendloop.core.records import Outcome
from mendloop.core.wire import proportion, slice_message
from mendloop.v1 import common_pb2, diagnosis_pb2, evaluation_pb2


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
            row(
                probe="coverage",
                measurement="slice_share",
                value=0.0004,
                low=0.0,
                high=0.0021,
                n=6200,
                reading=f"Of 6,200 training examples 3 lie in {name}; of the items 25 % do.",
            ),
            row(
                probe="forced_stop",
                measurement="rescued_share[a]",
                value=0.02,
                low=0.0005,
                high=0.11,
                n=49,
                reading="Stopping the output at the target's length makes 1 of 49 right: the model does stop.",
            ),
            row(
                probe="few_shot",
                measurement="rescued_share[a]",
                value=0.08,
                low=0.02,
                high=0.2,
                n=49,
                reading="With four solved examples in the prompt 4 of 49 are right.",
            ),
            row(
                probe="scorer_check",
                measurement="wrongly_failed_share",
                value=0.0,
                low=0.0,
                high=0.06,
                n=60,
                reading="The scorer failed none of 60 right references.",
            ),
            row(
                probe="patching",
                measurement="layer",
                value=2,
                low=2,
                high=2,
                n=20,
                reading="Of places that do not carry the whole passing run over, layer 2 at the last token is best",
                attachment=story.keep({"kind": "heat_map", "name": "heat_map", "document": heat_map()}),
            ),
            row(
                probe="attribution",
                measurement="same_slice_share[a]",
                value=0.05,
                low=0.001,
                high=0.25,
                n=20,
                reading=f"1 of the 20 training examples that speak most for the wrong outputs lies in {name}.",
                attachment=story.keep(
                    {"kind": "examples", "name": "training examples, sample a", "document": attributed()}
                ),
            ),
            row(
                probe="earlier_checkpoint",
                measurement="was_right_share",
                n=0,
                reading="There is no earlier checkpoint of this run.",
            ),
        ],
        scores=[
            score(cause=diagnosis_pb2.CAUSE_DATA_MISSING, score=0.94),
            score(cause=diagnosis_pb2.CAUSE_DATA_SKEW, score=0.31),
            score(cause=diagnosis_pb2.CAUSE_REASONING_GAP, score=0.12),
            score(cause=diagnosis_pb2.CAUSE_EOS_MASKED, score=0.02),
        ],
        interventions=[
            diagnosis_pb2.ProposedIntervention(
                kind=diagnosis_pb2.INTERVENTION_KIND_DATA,
                rationale=f"Add verified examples of {name}; replay the rest.",
            )
        ],
        failed_count=54,
        weak_slice_count=2,
        metering=common_pb2.Metering(wall_s=17, token_count=2_100),
        summary=f"The training data has almost none of {name}: 3 of 6,200 examples; a quarter of the items need it. "
        "Neither stopping, scoring nor prompting explains the failures.",
    )


def heat_map() -> dict[str, object]:
    """What activation patching attaches."""
    values = [[0.0, 0.02, 0.04, None], [0.08, 0.31, 0.22, 0.05], [0.12, 0.74, 0.83, 0.18], [-0.06, 0.41, 0.92, 0.55]]
    example = {
        "layers": [0, 1, 2, 3],
        "positions": ["jump ← walk", "around", "right", "→"],
        "values": values,
        "right": "I_JUMP",
        "wrong": "I_WALK",
        "clean_next": "I_TURN_RIGHT",
    }
    positions = ["differing words", "after them", "last token", "the answer so far"]
    return {"layers": [0, 1, 2, 3], "positions": positions, "values": values, "pairs": 20, "example": example}


def attributed() -> dict[str, object]:
    """What the attribution probe attaches."""
    rows = [
        ["proponent", 0.42 - 0.03 * n, 7.1 - 0.2 * n, "no", "right", f"walk {TURNS[n % 6]}", "I_TURN_RIGHT I_WALK"]
        for n in range(9)
    ]
    return {"columns": ["side", "influence", "BM25", "in slice", "label", "prompt", "completion"], "rows": rows}
