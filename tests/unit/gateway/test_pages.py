"""What people browse over REST: documented shapes, pages that hold each row once, clear words for what is not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import example, outcome
from fastapi.testclient import TestClient
from gateways import Parts, gateway
from google.protobuf.message import Message
from run_events import JUMP, RIGHT, batch, data_run, dead_letter, diagnosed, evaluated, ready, requested, sent
from waiting import wait_until

from mendloop.artifacts.lineage import Node, record
from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.core.contracts import retry_topic
from mendloop.core.records import Example, Outcome
from mendloop.core.wire import artifact_ref
from mendloop.gateway.adapters import outcome_pages


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return gateway(tmp_path)


@pytest.fixture
def client(parts: Parts) -> Iterator[TestClient]:
    with TestClient(parts.app, raise_server_exceptions=False) as client:
        assert parts.feed.wait_current(timeout_s=10)
        yield client


def _rows(*, right: set[int], count: int = 20, split: Any = "search") -> list[Outcome]:
    return [
        outcome(
            f"i{n:02}",
            split=split,
            prompt=f"Jump {n} times" if n % 2 else f"walk {n}",
            score=1.0 if n in right else 0.0,
            stop_reason="length" if n == 19 else "eos",
            axes={"verb": ("jump",) if n % 2 else ("walk",), "turn": ("right", "left") if n % 4 == 1 else ()},
        )
        for n in range(count)
    ]


def _measured(parts: Parts, base: Artifact, candidate: Artifact) -> list[Message]:
    """A run whose evaluations point to these outcomes."""
    first, second = evaluated("r1"), evaluated("r1", round=1, letter="c", correct=55, weak=0)
    first.outcomes.CopyFrom(artifact_ref(base))
    second.outcomes.CopyFrom(artifact_ref(candidate))
    return [first, second]


def _publish(parts: Parts, *changed: Message) -> None:
    """data_run with some of its events in another form."""
    places = {"EvalCompleted": [4, 16], "DataBatchReady": [12], "DiagnosisReady": [7]}
    events = data_run("r1")
    for message in changed:
        at = places[message.DESCRIPTOR.name].pop(0)
        events[at] = sent(message, second=at, event_id=f"r1/{at}")
    parts.bus.publish(events)
    wait_until(lambda: (view := parts.feed.runs.view("r1")) and view.finish)


def _get(client: TestClient, path: str, **params: object) -> Any:
    answer = client.get(path, params=params)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return answer.json()


def _problem(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["detail"])


def _ids(page: Any) -> list[str]:
    return [row["item_id"] for row in page["outcomes"]]


def test_slices_have_a_trend_and_a_cause(client: TestClient, parts: Parts) -> None:
    _publish(parts)
    page = _get(client, "/v1/runs/r1/slices", weak=True, q="turn")
    assert (page["total"], page["next_cursor"]) == (1, "")
    [found] = page["slices"]
    assert (found["slice_id"], found["definition"]) == (RIGHT.slice_id, "turn=right ∧ verb=jump")
    assert (found["cause"], found["confidence"]) == ("DATA_MISSING", 0.9)
    [point] = found["trend"]
    assert {name: point[name] for name in ("round", "arm", "n", "correct")} == {
        "round": 0,
        "arm": "",
        "n": 30,
        "correct": 1,
    }
    assert 0 <= point["low"] < point["accuracy"] < point["high"] <= 1


def test_diagnosis_shows_evidence_and_attachments(client: TestClient, parts: Parts) -> None:
    heat = {"kind": "heat_map", "name": "patching", "document": {"layers": [0], "positions": ["a"], "values": [[1.0]]}}
    kept = parts.store.put(json.dumps(heat).encode(), media_type="application/json")
    lost = replace(kept, sha256="e" * 64)
    message = diagnosed("r1", JUMP)
    message.evidence[0].attachment.CopyFrom(artifact_ref(kept))
    message.evidence.add(probe="lost", measurement="share", n=3).attachment.CopyFrom(artifact_ref(lost))
    _publish(parts, message)
    found = _get(client, f"/v1/runs/r1/diagnoses/0/{JUMP.slice_id}")
    assert (found["verdict"]["cause"], found["verdict"]["definition"]) == ("DATA_MISSING", "verb=jump")
    assert found["causes"] == [{"cause": "DATA_MISSING", "score": 0.9}]
    assert found["evidence"][0] == {
        "probe": "coverage",
        "measure": "share",
        "value": 0.0,
        "low": 0.0,
        "high": 0.01,
        "n": 400,
        "meaning": "none",
    }
    assert found["interventions"] == [{"kind": "data", "fixes": [], "rationale": "add data"}]
    good, bad = found["attachments"]
    assert (good["kind"], good["document"]) == ("heatmap", heat["document"])
    assert (bad["kind"], bad["document"]) == ("unreadable", None)
    assert "damaged" in bad["problem"]


def test_outcomes_stand_beside_the_baselines(client: TestClient, parts: Parts) -> None:
    base = put_rows(parts.store, _rows(right={0, 2, 4}), kind=Outcome)
    candidate = put_rows(parts.store, _rows(right={0, 1, 2, 3}), kind=Outcome)
    _publish(parts, *_measured(parts, base, candidate))
    page = _get(client, "/v1/runs/r1/outcomes")
    assert (page["total"], page["measured"]["round"], page["compared_with"]["round"]) == (20, 1, 0)
    first = page["outcomes"][1]
    assert (first["item_id"], first["is_right"], first["before"]["score"]) == ("i01", True, 0.0)
    assert page["outcomes"][19]["failure"] == "cut off at the length limit"
    assert page["outcomes"][5]["failure"] == "no answer found in the output"
    asked = {
        "fixed": ["i01", "i03"],
        "broke": ["i04"],
        "right": ["i00", "i01", "i02", "i03"],
    }
    for status, wanted in asked.items():
        assert _ids(_get(client, "/v1/runs/r1/outcomes", status=status)) == wanted, status
    assert _get(client, "/v1/runs/r1/outcomes", status="wrong")["total"] == 16
    base_page = _get(client, "/v1/runs/r1/outcomes", round=0)
    assert base_page["compared_with"] is None
    assert base_page["outcomes"][0]["before"] is None
    assert _get(client, "/v1/runs/r1/outcomes", round=0, status="broke")["total"] == 0


def test_outcomes_are_found_by_slice_and_by_words(client: TestClient, parts: Parts) -> None:
    table = put_rows(parts.store, _rows(right=set()), kind=Outcome)
    _publish(parts, *_measured(parts, table, table))
    of_jump = _get(client, "/v1/runs/r1/outcomes", slice=JUMP.slice_id)
    assert _ids(of_jump) == [f"i{n:02}" for n in range(1, 20, 2)]
    assert _ids(_get(client, "/v1/runs/r1/outcomes", slice=RIGHT.slice_id)) == [f"i{n:02}" for n in range(1, 20, 4)]
    assert _ids(_get(client, "/v1/runs/r1/outcomes", q="jump 7 T")) == ["i07"]
    assert of_jump["outcomes"][0]["axes"] == {"verb": ["jump"], "turn": ["right", "left"]}
    assert "has no slice" in _problem(client.get("/v1/runs/r1/outcomes?slice=none"), 404)


def test_pages_of_outcomes_hold_each_once(client: TestClient, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mendloop.gateway.adapters.parquet_rows.BATCH_ROWS", 3)
    table = put_rows(parts.store, _rows(right=set()), kind=Outcome)
    _publish(parts, *_measured(parts, table, table))
    seen, cursor = [], ""
    while True:
        page = _get(client, "/v1/runs/r1/outcomes", limit=7, cursor=cursor)
        seen += _ids(page)
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == [f"i{n:02}" for n in range(20)]


def test_sealed_rows_are_neither_shown_nor_counted(client: TestClient, parts: Parts) -> None:
    """No open table should have them; one that has is no way to see them."""
    sealed = _rows(right={0}, split="sealed")[:5]
    table = put_rows(parts.store, [*sealed, *_rows(right={7})[5:]], kind=Outcome)
    _publish(parts, *_measured(parts, table, table))
    page = _get(client, "/v1/runs/r1/outcomes")
    assert (page["total"], page["outcomes"][0]["item_id"]) == (15, "i05")
    assert _get(client, "/v1/runs/r1/outcomes", q="i00")["total"] == 0
    assert _ids(_get(client, "/v1/runs/r1/outcomes", status="right")) == ["i07"]


def test_outcomes_of_the_sealed_store_cannot_be_read(client: TestClient, parts: Parts, tmp_path: Path) -> None:
    """The gateway can write that store for submissions; an event that names what lies there opens nothing."""
    sealed_store = ArtifactStore(tmp_path / "sealed")
    hidden = put_rows(sealed_store, _rows(right={1}), kind=Outcome)
    assert sealed_store.get(hidden)
    _publish(parts, *_measured(parts, hidden, hidden))
    answer = client.get("/v1/runs/r1/outcomes")
    assert "missing or damaged" in _problem(answer, 502)
    assert str(tmp_path) not in answer.text
    assert "jump" not in answer.text.lower()


@pytest.mark.parametrize("content", [b"no parquet", b"", b"PAR1 and nothing else PAR1"])
def test_damaged_outcomes_are_a_clear_problem(client: TestClient, parts: Parts, content: bytes) -> None:
    table = parts.store.put(content, media_type="x/y")
    _publish(parts, *_measured(parts, table, table))
    assert "missing or damaged" in _problem(client.get("/v1/runs/r1/outcomes"), 502)


def test_outcomes_that_are_other_rows_are_a_clear_problem(client: TestClient, parts: Parts) -> None:
    table = put_rows(parts.store, [example()], kind=Example)
    _publish(parts, *_measured(parts, table, table))
    assert "missing or damaged" in _problem(client.get("/v1/runs/r1/outcomes"), 502)


def test_table_that_is_too_large_is_not_opened(
    client: TestClient, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome_pages, "MOST_BYTES", 100)
    table = put_rows(parts.store, _rows(right=set()), kind=Outcome)
    _publish(parts, *_measured(parts, table, table))
    assert "at most 100 are opened" in _problem(client.get("/v1/runs/r1/outcomes"), 422)


def test_batch_shows_its_funnel_shifts_and_examples(client: TestClient, parts: Parts) -> None:
    rows = [example(f"jump {n}", source="verb=jump: pool", verb="jump") for n in range(5)]
    table = put_rows(parts.store, rows, kind=Example)
    audit = {
        "axes": {"verb": {"values": {"jump": {"before": 0.1, "after": 0.4}, "walk": {"before": 0.9, "after": 0.6}}}}
    }
    record(parts.store, Node(f"batch:{table.sha256}", "r1", (), {"audit": audit}))
    made = batch("r1", example_count=5)
    made.batch.CopyFrom(artifact_ref(table))
    _publish(parts, made)
    page = _get(client, "/v1/runs/r1/batches/1", limit=2)
    assert (page["total"], page["batch"]["example_count"]) == (5, 5)
    assert page["funnel"] == [{"stage": "decontamination", "reason": "an evaluation item", "count": 2}]
    assert {row["value"] for row in page["shifts"]} == {"jump", "walk"}
    assert page["examples"][0] == {
        "prompt": "jump 0",
        "completion": "I_RUN",
        "rejected": "",
        "source": "verb=jump: pool",
        "slice_id": JUMP.slice_id,
    }
    rest = _get(client, "/v1/runs/r1/batches/1", limit=9, cursor=page["next_cursor"])
    assert [row["prompt"] for row in rest["examples"]] == ["jump 2", "jump 3", "jump 4"]
    assert "has no batch" in _problem(client.get("/v1/runs/r1/batches/7"), 404)


def test_lineage_leads_from_the_base_to_the_gate(client: TestClient, parts: Parts) -> None:
    _publish(parts)
    graph = _get(client, "/v1/runs/r1/lineage")
    kinds = {node["id"]: node["kind"] for node in graph["nodes"]}
    edges = {(kinds[edge["from"]], kinds[edge["to"]]) for edge in graph["edges"]}
    assert edges == {
        ("checkpoint", "evaluation"),
        ("evaluation", "failure"),
        ("failure", "diagnosis"),
        ("diagnosis", "plan"),
        ("plan", "batch"),
        ("batch", "checkpoint"),
        ("checkpoint", "checkpoint"),
        ("checkpoint", "gate"),
        ("evaluation", "gate"),
    }


def test_dead_letter_is_listed_and_replayed_once(client: TestClient, parts: Parts) -> None:
    refused = sent(ready("r1"), event_id="refused")
    parts.bus.publish([requested("r1"), dead_letter(refused), requested("r2", second=1)])
    wait_until(lambda: parts.feed.runs.view("r2"))
    [letter] = _get(client, "/v1/dead-letters", run="r1")["dead_letters"]
    assert (letter["service"], letter["attempts"], letter["replayed_at"]) == ("trainer", 1, None)
    answers = [
        client.post(f"/v1/dead-letters/{letter['id']}/replay", json={"reason": "disk was full", "by": "ada"})
        for _ in range(2)
    ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json() == _get(client, "/v1/dead-letters")["dead_letters"][0]
    assert answers[0].json()["replay_reason"] == "disk was full"
    assert len(parts.bus.read([retry_topic("trainer")])) == 1
    assert _get(client, "/v1/dead-letters", run="r2")["total"] == 0
    assert "no dead letter" in _problem(client.post("/v1/dead-letters/none/replay"), 404)


def test_runs_are_searched_and_counted(client: TestClient, parts: Parts) -> None:
    _publish(parts)
    parts.bus.publish([requested("r2")])
    wait_until(lambda: parts.feed.runs.view("r2"))
    page = _get(client, "/v1/runs", q="PROMOTED verb=jump")
    assert (page["total"], page["runs"][0]["run_id"], page["runs"][0]["requested_by"]) == (1, "r1", "ada")
    assert (page["runs"][0]["accuracy_before"], page["runs"][0]["accuracy_after"]) == (0.5, 55 / 60)
    assert _get(client, "/v1/runs")["total"] == 2


def test_pages_of_an_unknown_run_are_not_found(client: TestClient) -> None:
    for path in ("slices", "diagnoses/0/s", "outcomes", "batches/1", "lineage"):
        assert "there is no run 'none'" in _problem(client.get(f"/v1/runs/none/{path}"), 404)


def test_cursor_of_no_page_and_nul_are_malformed(client: TestClient, parts: Parts) -> None:
    table = put_rows(parts.store, _rows(right=set()), kind=Outcome)
    _publish(parts, *_measured(parts, table, table))
    for path in ("/v1/runs", "/v1/runs/r1/slices", "/v1/runs/r1/outcomes", "/v1/dead-letters"):
        for cursor in ("!", "e30", "WzFd", "WyJhIiwgIlx1MDAwMCJd", "WzEsMl0"):
            assert "cursor" in _problem(client.get(path, params={"cursor": cursor}), 400)
    for path in ("/v1/runs?q=%00", "/v1/runs/a%00/slices", "/v1/dead-letters?run=%00", "/v1/runs/r1/outcomes?q=%00"):
        assert "NUL" in _problem(client.get(path), 400)


def test_database_that_is_away_is_busy_and_not_ready(
    client: TestClient, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts.feed.runs, "trouble", "gone")
    assert client.get("/readyz").status_code == 503
