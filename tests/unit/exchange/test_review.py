"""People's annotations come back from every tool as one review, and what does not fit the batch is refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from exchange_world import EXAMPLES, batch_in, export, write_export

from mendloop.artifacts.lineage import ancestry, find
from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.core.errors import InvalidReview
from mendloop.core.records import Example
from mendloop.exchange.batches import find_batch
from mendloop.exchange.formats import READERS
from mendloop.exchange.review import Annotation, Policy, reviewed
from mendloop.exchange.reviewed import keep_review
from mendloop.exchange.rows import Row

ALL = {0: [("ada", "accept", "")], 1: [("ada", "reject", "")], 2: [("bo", "correct", "I_LOOK I_RUN I_RUN")]}
REFUSE = Policy()


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def annotation(place: int = 0, verdict: str = "accept", *, by: str = "ada", **changes: Any) -> Annotation:
    values = {"prompt": EXAMPLES[place].prompt, "completion": ""} | changes
    return Annotation(row_id=f"b-{place}", verdict=verdict, annotator=by, **values)


def rows_of() -> list[Row]:
    return [Row(f"b-{place}", row) for place, row in enumerate(EXAMPLES)]


@pytest.mark.parametrize("format_name", READERS)
def test_accepted_rejected_and_corrected_rows_come_back(store: ArtifactStore, tmp_path: Path, format_name: str) -> None:
    batch = batch_in(store)
    path = write_export(tmp_path, format_name, export(store, batch, format_name), ALL)

    review = reviewed(batch.rows, READERS[format_name](path), policy=REFUSE)

    assert review.counts == {"accepted": 1, "rejected by a person": 1, "corrected": 1}
    assert review.annotators == ("ada", "bo")
    assert [(e.prompt, e.completion, e.source) for e in review.examples] == [
        ("jump twice", "I_JUMP I_JUMP", "teacher:scan"),
        ("look, run | «both»", "I_LOOK I_RUN I_RUN", "pool+corrected"),
    ]


@pytest.mark.parametrize("format_name", READERS)
def test_rows_that_nobody_reviewed_are_refused_kept_or_dropped(
    store: ArtifactStore, tmp_path: Path, format_name: str
) -> None:
    batch = batch_in(store)
    path = write_export(tmp_path, format_name, export(store, batch, format_name), {0: ALL[0]})
    said = READERS[format_name](path)

    with pytest.raises(InvalidReview, match=rf"2 row\(s\) have no verdict.*{batch.short}-00001"):
        reviewed(batch.rows, said, policy=REFUSE)

    assert reviewed(batch.rows, said, policy=Policy(unreviewed="drop")).dropped == {"nobody reviewed it": 2}
    assert len(reviewed(batch.rows, said, policy=Policy(unreviewed="keep")).examples) == 3


@pytest.mark.parametrize("format_name", READERS)
def test_annotators_who_disagree_are_refused_or_dropped(store: ArtifactStore, tmp_path: Path, format_name: str) -> None:
    batch = batch_in(store)
    torn = {**ALL, 0: [("ada", "accept", ""), ("bo", "reject", "")]}
    path = write_export(tmp_path, format_name, export(store, batch, format_name), torn)
    said = READERS[format_name](path)

    with pytest.raises(InvalidReview, match=rf"1 row\(s\) have annotators who disagree.*{batch.short}-00000"):
        reviewed(batch.rows, said, policy=REFUSE)

    review = reviewed(batch.rows, said, policy=Policy(disagreement="drop"))
    assert review.dropped == {"its annotators disagree": 1, "rejected by a person": 1}


def test_two_different_corrections_disagree_and_two_equal_ones_do_not() -> None:
    others = [annotation(1), annotation(2)]
    same = [annotation(verdict="correct", by=who, completion="I_HOP") for who in ("ada", "bo")]
    differ = [*same, annotation(verdict="correct", by="cy", completion="I_SKIP")]

    assert reviewed(rows_of(), [*same, *others], policy=REFUSE).counts == {"accepted": 2, "corrected": 1}
    with pytest.raises(InvalidReview, match="disagree"):
        reviewed(rows_of(), [*differ, *others], policy=REFUSE)


def test_the_later_word_of_one_person_counts() -> None:
    said = [annotation(0, "reject"), annotation(0, "accept"), annotation(1), annotation(2)]

    assert reviewed(rows_of(), said, policy=REFUSE).counts == {"accepted": 3}


def test_a_correction_that_changes_nothing_accepts() -> None:
    said = [annotation(0, "correct", completion=EXAMPLES[0].completion), annotation(1), annotation(2)]

    assert reviewed(rows_of(), said, policy=REFUSE).counts == {"accepted": 3}


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (Annotation("other-1", "jump", "accept"), r"1 row\(s\) are not in this batch.*other-1"),
        (annotation(prompt="jump thrice"), r"1 row\(s\) have another prompt than the batch.*b-0"),
        (
            annotation(verdict="maybe"),
            r"verdict: it must be accept, reject, correct or empty \(b-0 \('maybe'\)",
        ),
        (annotation(verdict="correct", completion="  "), r"to be corrected and have no new completion"),
        (annotation(completion="I_HOP"), r"are accepted with another completion"),
    ],
)
def test_what_does_not_fit_the_batch_is_refused_in_words(wrong: Annotation, complaint: str) -> None:
    with pytest.raises(InvalidReview, match=complaint):
        reviewed(rows_of(), [wrong, annotation(1), annotation(2)], policy=REFUSE)


def test_reviewed_batch_stands_in_the_lineage_with_its_counts(store: ArtifactStore, tmp_path: Path) -> None:
    batch = batch_in(store)
    path = write_export(tmp_path, "jsonl", export(store, batch, "jsonl"), ALL)

    kept = keep_review(store, batch, reviewed(batch.rows, READERS["jsonl"](path), policy=REFUSE))

    assert [row.completion for row in get_rows(store, kept.batch, kind=Example)] == [
        "I_JUMP I_JUMP",
        "I_LOOK I_RUN I_RUN",
    ]
    walked = [node for _, node in ancestry(store, f"batch:{kept.batch.sha256}")]
    assert [node.kind for node in walked] == ["batch", "batch", "plan", "diagnosis", "failure", "evaluation"]
    facts = walked[0].facts
    assert (facts["examples"], facts["reviewed_by"]) == (2, "ada, bo")
    assert kept.drops == (
        {"stage": "decontamination", "reason": "its prompt is an evaluation item", "count": 7},
        {"stage": "review", "reason": "rejected by a person", "count": 1},
    )
    decisions = store.find(str(facts["decisions"]))
    assert decisions is not None
    assert [row["reason"] for row in json.loads(store.get(decisions))["rows"]] == [
        "accepted",
        "rejected by a person",
        "corrected",
    ]


def test_a_batch_that_is_accepted_whole_keeps_its_hash_its_plan_and_the_review(store: ArtifactStore) -> None:
    batch = batch_in(store)
    said = [Annotation(row.row_id, row.example.prompt, "accept", annotator="ada") for row in batch.rows]

    kept = keep_review(store, batch, reviewed(batch.rows, said, policy=REFUSE))

    assert kept.batch.sha256 == batch.artifact.sha256
    node = find(store, batch.node.name)
    assert node is not None
    assert (node.inputs, node.facts["reviewed_by"]) == (("plan:p1",), "ada")


def test_the_card_of_a_reviewed_batch_names_reviewers_and_the_batch_before(store: ArtifactStore) -> None:
    batch = batch_in(store)
    said = [Annotation(row.row_id, row.example.prompt, "accept", annotator="ada") for row in batch.rows[1:]]
    kept = keep_review(store, batch, reviewed(batch.rows, said, policy=Policy(unreviewed="drop")))

    text = export(store, find_batch(store, kept.batch.sha256), "hf")["README.md"].decode()

    assert "## Reviewed by ada" in text
    assert "| nobody reviewed it | 1 |" in text
    assert f"| batch before the review | `{batch.artifact.sha256}` |" in text
    assert "as it was made, before the review" in text
    assert "in round 1" in text


def test_label_studio_skips_and_numbers_are_understood(store: ArtifactStore, tmp_path: Path) -> None:
    batch = batch_in(store)
    path = write_export(tmp_path, "label-studio", export(store, batch, "label-studio"), ALL)
    tasks = json.loads(path.read_text())
    tasks[0]["annotations"][0]["completed_by"] = 7
    tasks[1]["annotations"][0]["was_cancelled"] = True
    path.write_text(json.dumps(tasks))

    review = reviewed(batch.rows, READERS["label-studio"](path), policy=Policy(unreviewed="drop"))

    assert review.annotators == ("7", "bo")
    assert review.dropped == {"nobody reviewed it": 1}


def test_argilla_drafts_and_discarded_answers_do_not_count(store: ArtifactStore, tmp_path: Path) -> None:
    batch = batch_in(store)
    path = write_export(tmp_path, "argilla", export(store, batch, "argilla"), ALL)
    records = json.loads(path.read_text())
    records[0]["responses"]["verdict"][0]["status"] = "draft"
    path.write_text(json.dumps(records))

    review = reviewed(batch.rows, READERS["argilla"](path), policy=Policy(unreviewed="drop"))

    assert review.dropped == {"nobody reviewed it": 1, "rejected by a person": 1}


@pytest.mark.parametrize(
    ("format_name", "content", "complaint"),
    [
        ("label-studio", "{", "is not JSON"),
        ("label-studio", '{"data": 1}', "holds one dict, not a list; it must be Label Studio's JSON export"),
        ("label-studio", '[{"prompt": "x", "verdict": "accept"}]', r"task 0 has no `data`.*not JSON-MIN"),
        ("label-studio", '[{"data": {"id": 3}, "annotations": []}]', "id is 3; it must be a text"),
        (
            "label-studio",
            '[{"data": {"id": "a"}, "annotations": [{"result": [{"from_name": "stars", "value": {}}]}]}]',
            "results of stars: label with labelling-config.xml",
        ),
        ("argilla", "[[]]", "record 0 is list, not an object"),
        ("argilla", '[{"text": "x"}]', r"no `id` or no `fields`.*to_json"),
        ("jsonl", '{"id": "a"}\n{', r"jsonl\.json:2 is not JSON"),
        ("jsonl", '{"prompt": "a"}', "id is None; it must be a text that is not empty"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_its_place(
    tmp_path: Path, format_name: str, content: str, complaint: str
) -> None:
    path = tmp_path / f"{format_name}.json"
    path.write_text(content)

    with pytest.raises(InvalidReview, match=complaint):
        READERS[format_name](path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidReview, match=r"gone\.json cannot be read"):
        READERS["argilla"](tmp_path / "gone.json")
