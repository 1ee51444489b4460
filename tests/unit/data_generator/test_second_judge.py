"""A second judge of a teacher's answers over real HTTP: what it stops, and when it may judge at all."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import recipe
from chat_server import ChatServer, Reply
from generator_world import BIG, Stage, Sums, drops, sum_of

from mendloop.v1 import intervention_pb2

CORPUS = [sum_of(left, right) for left in (3, 130, 140) for right in range(16)]
Verdict = Callable[[str, str], str]


def lines(*pairs: tuple[str, str]) -> str:
    return "\n".join(json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in pairs)


def sure_teacher() -> Callable[[str, dict[str, Any]], Reply]:
    """Four new sums a reply. It is sure of all, and wrong by one about every fourth: those that end in 3 and 7."""
    numbers = itertools.count(500)

    def believed(left: int, right: int) -> str:
        return str(left + right + (left % 4 == 3))

    def answer(prompt: str, request: dict[str, Any]) -> Reply:
        if prompt.startswith("You write"):
            lefts = [next(numbers) for _ in range(4)]
            return Reply(lines(*((f"add {left} 7", believed(left, 7)) for left in lefts)), token_count=50)
        [asked] = re.findall(r'The prompt is "add (\d+) (\d+)"', prompt)
        return Reply(json.dumps({"completion": believed(*map(int, asked))}), token_count=5)

    return answer


def judging(verdict: Verdict) -> Callable[[str, dict[str, Any]], Reply]:
    """A judge that says what the function says of (question, answer)."""

    def answer(prompt: str, request: dict[str, Any]) -> Reply:
        [(question, output)] = re.findall(r"\nQuestion:\n(.*)\n\nAnswer:\n(.*)\n\nDoes", prompt)
        return Reply(verdict(question, output), token_count=1)

    return answer


def knows(question: str, output: str) -> str:
    return "Yes." if Sums().verify(question, output) else "No."


def batch(
    folder: Path, *, teacher_url: str, judge_url: str, has_verifier: bool = False, **settings: Any
) -> tuple[Stage, intervention_pb2.DataBatchReady]:
    teacher = {
        "url": teacher_url,
        "model": "t",
        "asked": "alone",
        "timeout_s": 5.0,
        "attempts": 1,
        "judge": {"url": judge_url, "model": "j"},
        **settings,
    }
    stage = Stage(folder / "artifacts", task=Sums(has_verifier=has_verifier))
    stage.spec_parts = {"corpus": CORPUS, "recipe": recipe(task="sums", teacher=teacher)}
    return stage, stage.answer(stage.plan((BIG, 6)))


def test_a_judge_stops_answers_that_the_teacher_is_sure_of_and_wrong(tmp_path: Path) -> None:
    with ChatServer(sure_teacher()) as teacher, ChatServer(judging(knows)) as judge:
        stage, ready = batch(tmp_path, teacher_url=teacher.url, judge_url=judge.url)

    rows = stage.rows(ready)
    assert len(rows) == 6
    assert all(Sums().verify(row.prompt, row.completion) for row in rows)
    told = drops(ready, "verification")
    assert [count for reason, count in told.items() if "the second judge does not accept the answer" in reason] == [1]
    [measured] = [reason for reason, count in told.items() if not count]
    assert measured.startswith("second judge j, measured on answers of the corpus: sensitivity 1.00 [0.88, 1.00] of 30")
    judged = len(judge.asked)
    assert judged == 30 + 30 + 6 + 1
    assert {request["temperature"] for request in judge.asked} == {0.0}
    assert ready.metering.token_count == 3 * 50 + 7 * 3 * 5 + judged


@pytest.mark.parametrize(
    ("verdict", "complaint"),
    [
        (lambda question, output: "Yes", "the judge's specificity is 0.000"),
        (lambda question, output: "No", "the judge's sensitivity is 0.000"),
        (lambda question, output: "perhaps", "the judge's sensitivity is 0.000"),
    ],
)
def test_a_judge_that_errs_too_much_may_not_judge_and_nothing_is_kept(
    tmp_path: Path, verdict: Verdict, complaint: str
) -> None:
    with ChatServer(sure_teacher()) as teacher, ChatServer(judging(verdict)) as judge:
        _, ready = batch(tmp_path, teacher_url=teacher.url, judge_url=judge.url)

    assert ready.example_count == 0
    assert any(
        "the second judge j may not judge" in reason and complaint in reason for reason in drops(ready, "source")
    )
    assert any(reason.startswith("second judge j, measured") for reason in drops(ready, "verification"))


def test_answers_of_which_the_judge_says_nothing_are_counted_apart(tmp_path: Path) -> None:
    known = {row.prompt for row in CORPUS}

    def verdict(question: str, output: str) -> str:
        return knows(question, output) if question in known else "hard to say"

    with ChatServer(sure_teacher()) as teacher, ChatServer(judging(verdict)) as judge:
        _, ready = batch(tmp_path, teacher_url=teacher.url, judge_url=judge.url, fruitless_limit=8)

    assert ready.example_count == 0
    assert [count for reason, count in drops(ready, "verification").items() if "neither yes nor no" in reason] == [8]


def test_a_judge_that_is_away_ends_the_source_with_its_address(tmp_path: Path) -> None:
    with ChatServer(judging(knows)) as judge:
        gone = judge.url
    with ChatServer(sure_teacher()) as teacher:
        _, ready = batch(tmp_path, teacher_url=teacher.url, judge_url=gone)

    assert ready.example_count == 0
    assert any(gone in reason and "correct teacher.judge.url" in reason for reason in drops(ready, "source"))


def test_where_a_program_verifies_the_judge_is_not_asked(tmp_path: Path) -> None:
    with ChatServer(sure_teacher()) as teacher, ChatServer(judging(knows)) as judge:
        stage, ready = batch(tmp_path, teacher_url=teacher.url, judge_url=judge.url, has_verifier=True)

    assert len(stage.rows(ready)) == 6
    assert judge.asked == []


def test_the_judges_tokens_count_against_the_teachers_limit(tmp_path: Path) -> None:
    with ChatServer(sure_teacher()) as teacher, ChatServer(judging(knows)) as judge:
        _, ready = batch(tmp_path, teacher_url=teacher.url, judge_url=judge.url, token_limit=100)

    assert ready.example_count < 6
    assert any("its limit is 100" in reason for reason in drops(ready, "source"))
