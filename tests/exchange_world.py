"""A store that holds a batch with its whole lineage, and people who annotate what is exported of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builders import example

from mendloop.artifacts.lineage import Node, record
from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.core.records import Example, Preference
from mendloop.exchange.batches import StoredBatch, find_batch
from mendloop.exchange.formats import exported
from mendloop.exchange.provenance import provenance_of

RUN = "tiny-1"
EXAMPLES = [
    example("jump twice", completion="I_JUMP I_JUMP", source="teacher:scan", verb="jump"),
    example("jump", completion="I_JUMP", source="pool", verb="jump"),
    example("look, run | «both»", completion="I_LOOK I_RUN", source="pool", verb="look"),
]
FACTS: dict[str, Any] = {
    "examples": 3,
    "ordered": 4,
    "sources": {"pool": 2, "teacher:scan": 1},
    "drops": [{"stage": "decontamination", "reason": "its prompt is an evaluation item", "count": 7}],
    "audit": {
        "corpus_count": 10,
        "batch_count": 3,
        "axes": {"verb": {"values": {"jump": {"before": 0.1, "after": 0.25, "batch": 2}}, "largest_shift": 0.15}},
    },
}


PREFERENCES = [
    Preference("jump twice", "I_JUMP I_JUMP", "I_JUMP", "teacher:t", axes={"verb": ("jump",)}),
    Preference("look", "I_LOOK", "I_WALK", "teacher:t"),
]


def put_batch(
    store: ArtifactStore,
    examples: Sequence[Example] = EXAMPLES,
    *,
    run_id: str = RUN,
    round: int = 1,
    preferences: Sequence[Preference] = (),
) -> Artifact:
    """A batch, of preferences where they are given, with the failure, verdict and plan that it answers."""
    artifact = put_rows(store, preferences, kind=Preference) if preferences else put_rows(store, examples, kind=Example)
    plan = f"p{round}"
    for name, inputs, facts in (
        ("evaluation:e1", (), {"accuracy": 0.7}),
        ("failure:e1/s1", ("evaluation:e1",), {"slice": "verb=jump", "n": 40, "correct": 2}),
        ("diagnosis:e1/s1", ("failure:e1/s1",), {"cause": "data_missing", "confidence": 0.93}),
        (f"plan:{plan}", ("diagnosis:e1/s1",), {"round": round, "rationale": "4 new examples", "kind": "data"}),
        (f"batch:{artifact.sha256}", (f"plan:{plan}",), FACTS),
    ):
        record(store, Node(name, run_id, inputs, facts))
    return artifact


def batch_in(store: ArtifactStore) -> StoredBatch:
    """The batch that put_batch put there."""
    return find_batch(store, put_batch(store).sha256)


def export(store: ArtifactStore, batch: StoredBatch, format_name: str) -> dict[str, bytes]:
    """The files of an export."""
    return exported(batch, provenance_of(store, batch), format_name=format_name)


Said = Mapping[int, Sequence[tuple[str, str, str]]]
"""Row to what each person said: (person, verdict, correction)."""


def label_studio_export(files: Mapping[str, bytes], said: Said) -> list[dict[str, Any]]:
    """What Label Studio gives back for its own tasks."""
    tasks = json.loads(files["tasks.json"])
    for index, task in enumerate(tasks):
        task["id"] = index + 1
        task["annotations"] = [
            {
                "id": 100 + index,
                "completed_by": {"id": 1, "email": person},
                "was_cancelled": False,
                "result": [_chosen(verdict), _written(correction or task["data"]["completion"])],
            }
            for person, verdict, correction in said.get(index, ())
        ]
    return list(tasks)


def _chosen(verdict: str) -> dict[str, Any]:
    return {"from_name": "verdict", "to_name": "completion", "type": "choices", "value": {"choices": [verdict]}}


def _written(text: str) -> dict[str, Any]:
    return {"from_name": "correction", "to_name": "completion", "type": "textarea", "value": {"text": [text]}}


def argilla_export(files: Mapping[str, bytes], said: Said) -> list[dict[str, Any]]:
    """What Argilla gives back for its own records."""
    records = json.loads(files["records.json"])
    for index, row in enumerate(records):
        people = said.get(index, ())
        row["responses"] = {
            "verdict": [{"value": verdict, "user_id": person} for person, verdict, _ in people],
            "correction": [{"value": text, "user_id": person} for person, _, text in people if text],
        }
        row["status"] = "completed" if people else "pending"
    return list(records)


def jsonl_filled(files: Mapping[str, bytes], said: Said) -> list[dict[str, Any]]:
    """The lines with what people wrote: one line a person."""
    lines = [json.loads(line) for line in files["rows.jsonl"].decode().splitlines()]
    return [
        {**line, "verdict": verdict, "correction": text, "annotator": person}
        for index, line in enumerate(lines)
        for person, verdict, text in said.get(index, [("", "", "")])
    ]


def write_export(folder: Path, format_name: str, files: Mapping[str, bytes], said: Said) -> Path:
    """The file that a person gives to `mend import`."""
    path = folder / f"{format_name}.json"
    if format_name == "jsonl":
        path.write_text("".join(json.dumps(line) + "\n" for line in jsonl_filled(files, said)))
        return path
    make = label_studio_export if format_name == "label-studio" else argilla_export
    path.write_text(json.dumps(make(files, said)))
    return path
