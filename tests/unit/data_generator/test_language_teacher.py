"""A scripted teacher over real HTTP: what a good one brings, and how every bad one ends."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders import recipe
from chat_server import ChatServer, Reply
from generator_world import BIG, Stage, Sums, drops, sum_of

from mendloop.artifacts.lineage import find
from mendloop.core.records import fingerprint
from mendloop.core.tasks import matches
from mendloop.v1 import intervention_pb2

CORPUS = [sum_of(left, right) for left in (3, 130, 140) for right in range(4)]
Answer = Callable[[str, dict[str, Any]], str | Reply]


def lines(*pairs: tuple[str, str]) -> str:
    return "\n".join(json.dumps({"prompt": prompt, "completion": answer}) for prompt, answer in pairs)


def good_teacher() -> Answer:
    """Four new right sums above 100 a reply, none twice."""
    numbers = itertools.count(500)

    def answer(prompt: str, request: dict[str, Any]) -> Reply:
        rows = [sum_of(next(numbers), 7) for _ in range(4)]
        return Reply(lines(*((row.prompt, row.completion) for row in rows)), token_count=50)

    return answer


class School:
    """A stage whose recipe names a teacher at some address."""

    def __init__(self, folder: Path, url: str, **settings: Any) -> None:
        teacher = {"url": url, "model": "t", "asked": "alone", "timeout_s": 5.0, "attempts": 1, **settings}
        self.stage = Stage(folder / "artifacts")
        self.stage.spec_parts = {"corpus": CORPUS, "recipe": recipe(task="sums", teacher=teacher)}

    def answer(self, count: int, **changes: Any) -> intervention_pb2.DataBatchReady:
        return self.stage.answer(self.stage.plan((BIG, count), **changes))


def test_a_teacher_varies_seeds_of_the_slice_until_the_order_is_filled(tmp_path: Path) -> None:
    with ChatServer(good_teacher()) as server:
        school = School(tmp_path, server.url)
        ready = school.answer(10)

    rows = school.stage.rows(ready)
    assert len(rows) == 10
    assert all(matches(row.axes, BIG) and Sums().verify(row.prompt, row.completion) for row in rows)
    assert {row.source for row in rows} == {"teacher:t"}
    assert ready.metering.token_count == 50 * len(server.asked) == 150, "one request, then two at a time"
    for request in server.asked:
        asked = request["messages"][0]["content"]
        seeds = [json.loads(line) for line in asked.splitlines() if line.startswith('{"prompt": "add')]
        assert all(seed["prompt"] in {row.prompt for row in CORPUS} for seed in seeds)
        assert max(map(int, re.findall(r"\d+", seeds[0]["prompt"]))) > 100, "the first seed is of the slice"
        assert "its size is 'big'" in asked


def test_without_a_teacher_in_the_recipe_nothing_is_asked_and_no_token_is_metered(tmp_path: Path) -> None:
    ready = Stage(tmp_path / "artifacts").answer(Stage(tmp_path / "artifacts").plan((BIG, 3)))

    assert {row.source for row in Stage(tmp_path / "artifacts").rows(ready)} == {"teacher:sums"}
    assert ready.metering.token_count == 0


def test_a_plan_that_starts_again_asks_nothing_twice_and_gets_the_same_batch(tmp_path: Path) -> None:
    with ChatServer(good_teacher()) as server:
        school = School(tmp_path, server.url)
        first, again = school.answer(10), school.answer(10)

    assert (first.batch, first.metering.token_count) == (again.batch, again.metering.token_count)
    assert len(server.asked) == 3


def test_another_plan_asks_anew(tmp_path: Path) -> None:
    with ChatServer(good_teacher()) as server:
        school = School(tmp_path, server.url)
        school.answer(4)
        school.answer(4, plan_id="p2")

    assert len(server.asked) == 2


def test_at_most_so_many_variants_of_a_seed_are_looked_at(tmp_path: Path) -> None:
    with ChatServer(good_teacher()) as server:
        ready = School(tmp_path, server.url, variants_per_seed=2).answer(100)

    seeds_of_slice = 8
    assert ready.example_count == 2 * seeds_of_slice
    assert drops(ready, "teacher") == {"more examples than were asked for": 2 * seeds_of_slice}
    assert drops(ready, "budget") == {"size=big: 16 of 100 ordered examples were found": 0}


def test_evaluation_items_are_no_seeds(tmp_path: Path) -> None:
    with ChatServer(good_teacher()) as server:
        school = School(tmp_path, server.url)
        sealed = [row.prompt for row in CORPUS if row.prompt.startswith("add 130")]
        school.stage.spec_parts["fingerprints"] = [fingerprint(prompt) for prompt in sealed]
        school.answer(100)

    asked = json.dumps(server.asked)
    assert not [prompt for prompt in sealed if prompt in asked]
    assert "add 140" in asked


def test_a_slice_of_which_the_corpus_has_no_value_gets_nothing_from_the_teacher(tmp_path: Path) -> None:
    with ChatServer(good_teacher()) as server:
        school = School(tmp_path, server.url)
        school.stage.spec_parts["corpus"] = [sum_of(1, 1)]
        ready = school.answer(5)

    assert server.asked == []
    [note] = drops(ready, "source")
    assert "none of them has any value of the slice" in note


def test_the_teacher_may_be_asked_before_or_after_the_other_sources(tmp_path: Path) -> None:
    sources = {}
    for place in ("first", "last"):
        with ChatServer(good_teacher()) as server:
            school = School(tmp_path / place, server.url, asked=place)
            sources[place] = {row.source for row in school.stage.rows(school.answer(4))}

    assert sources == {"first": {"teacher:t"}, "last": {"teacher:sums"}}


def test_garbage_is_dropped_with_reasons_and_ends_the_slice_with_the_rate(tmp_path: Path) -> None:
    said = itertools.cycle(["I cannot do that.", "{broken", '{"prompt": 7}', lines(("add 300 1", "999")), "[]"])
    with ChatServer(lambda prompt, request: Reply(next(said), token_count=9)) as server:
        ready = School(tmp_path, server.url, concurrency=1, fruitless_limit=10).answer(5)

    assert ready.example_count == 0
    assert drops(ready, "teacher") == {
        "the reply holds no example": 6,
        "an object without a text as prompt, or without one as completion": 2,
    }
    assert drops(ready, "verification") == {"the verifier does not confirm the answer": 2}
    assert list(drops(ready, "source")) == [
        "size=big: teacher:t: cut off after 10 candidates in a row of which none passed (10 looked at)"
    ]
    assert ready.metering.token_count == 9 * 10
    assert find(Stage(tmp_path / "artifacts").store, f"batch:{ready.batch.sha256}") is not None


def test_a_seed_of_which_no_reply_can_be_read_is_left_after_its_tries(tmp_path: Path) -> None:
    with ChatServer(lambda prompt, request: "no") as server:
        ready = School(tmp_path, server.url, tries_per_seed=3, fruitless_limit=1000).answer(5)

    assert len(server.asked) == 8 * 3
    assert list(drops(ready, "source")) == ["size=big: teacher:t: ended after 24 candidates, 0 passed"]


def test_a_teacher_that_repeats_itself_is_left(tmp_path: Path) -> None:
    same = lines(*((sum_of(number, 1).prompt, sum_of(number, 1).completion) for number in range(200, 204)))
    with ChatServer(lambda prompt, request: same) as server:
        ready = School(tmp_path, server.url, fruitless_limit=12).answer(50)

    assert ready.example_count == 4
    assert drops(ready, "duplicate") == {"its prompt is in the batch or among its candidates": 12}
    [note] = drops(ready, "source")
    assert note.endswith("cut off after 12 candidates in a row of which none passed (16 looked at), 4 passed")


def test_a_teacher_that_only_copies_its_seeds_brings_nothing(tmp_path: Path) -> None:
    def copy(prompt: str, request: dict[str, Any]) -> str:
        return "\n".join(line for line in prompt.splitlines() if line.startswith('{"prompt": "add'))

    with ChatServer(copy) as server:
        ready = School(tmp_path, server.url, fruitless_limit=12).answer(5)

    assert ready.example_count == 0
    assert drops(ready, "duplicate") == {"its prompt is in the corpus": 12}


def test_a_dead_teacher_ends_the_slice_with_its_address_and_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        ready = School(tmp_path, url, attempts=3).answer(5)

    assert (ready.example_count, ready.metering.token_count) == (0, 0)
    [note] = drops(ready, "source")
    assert url in note
    assert note.endswith("start it, or correct teacher.url, or raise teacher.timeout_s")


def test_a_teacher_that_hangs_ends_the_slice_in_time(tmp_path: Path) -> None:
    released = threading.Event()

    def hang(prompt: str, request: dict[str, Any]) -> str:
        released.wait(30)
        return ""

    with ChatServer(hang) as server:
        ready = School(tmp_path, server.url, timeout_s=0.2).answer(5)
        released.set()

    [note] = drops(ready, "source")
    assert f"the teacher at {server.url} does not answer: " in note
    assert "timed out" in note


def test_a_teacher_that_dies_amid_its_work_leaves_what_it_gave(tmp_path: Path) -> None:
    good, asked = good_teacher(), itertools.count(1)

    def answer(prompt: str, request: dict[str, Any]) -> str | Reply:
        return good(prompt, request) if next(asked) <= 3 else Reply(status=500, raw=b"out of memory")

    with ChatServer(answer) as server:
        ready = School(tmp_path, server.url).answer(100)

    assert (ready.example_count, ready.metering.token_count) == (12, 150)
    [note] = drops(ready, "source")
    assert "gave up after 12 candidates" in note
    assert "answered 500: b'out of memory'" in note


def test_one_question_that_fails_among_others_is_counted_and_asked_again(tmp_path: Path) -> None:
    good, asked = good_teacher(), itertools.count(1)

    def answer(prompt: str, request: dict[str, Any]) -> str | Reply:
        return Reply(status=503, raw=b"busy") if next(asked) == 3 else good(prompt, request)

    with ChatServer(answer) as server:
        ready = School(tmp_path, server.url).answer(20)

    assert ready.example_count == 20
    assert drops(ready, "teacher") == {"no reply from the teacher in time": 1}


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=401, raw=b"no such key"), "answered 401: b'no such key'"),
        (Reply(raw=b"<html>hello</html>"), "gave no chat completion"),
        (Reply(raw=b'{"choices": []}'), "gave no chat completion"),
        (Reply(raw=b'{"choices": "none"}'), "gave no chat completion"),
    ],
)
def test_a_teacher_that_refuses_or_is_none_ends_the_slice(tmp_path: Path, reply: Reply, words: str) -> None:
    with ChatServer(lambda prompt, request: reply) as server:
        ready = School(tmp_path, server.url).answer(5)

    [note] = drops(ready, "source")
    assert words in note
    assert note.endswith("correct teacher.model, its key or its url")
    assert len(server.asked) == 1


def test_a_key_file_that_is_missing_is_named_and_the_key_is_sent_and_never_kept(tmp_path: Path) -> None:
    key = tmp_path / "key"
    with ChatServer(good_teacher()) as server:
        [note] = drops(School(tmp_path / "a", server.url, api_key_file=str(key)).answer(1), "source")
        key.write_text("s3cret\n")
        School(tmp_path / "b", server.url, api_key_file=str(key)).answer(1)

    assert f"teacher.api_key_file {key} cannot be read" in note
    assert [request["authorization"] for request in server.asked] == ["Bearer s3cret"]
    stored = [path for path in (tmp_path / "b").rglob("*") if path.is_file()]
    assert stored
    assert not [path for path in stored if b"s3cret" in path.read_bytes()]


@pytest.mark.parametrize(("of_recipe", "of_plan"), [(120, 0), (120, 1000), (1000, 120)])
def test_a_teacher_that_has_spent_its_tokens_is_asked_no_more(tmp_path: Path, of_recipe: int, of_plan: int) -> None:
    with ChatServer(good_teacher()) as server:
        school = School(tmp_path, server.url, token_limit=of_recipe)
        school.stage.token_limit = of_plan
        ready = school.answer(100)

    assert ready.metering.token_count == 150, "the limit is looked at before each wave"
    [note] = drops(ready, "source")
    assert "generated 150 tokens for this plan and its limit is 120" in note


def test_replies_without_a_token_count_are_named(tmp_path: Path) -> None:
    answer = good_teacher()
    with ChatServer(lambda prompt, request: answer(prompt, request).text) as server:  # type: ignore[union-attr]
        ready = School(tmp_path, server.url).answer(4)

    assert ready.metering.token_count == 0
    assert drops(ready, "teacher") == {"1 replies of the teacher came without a token count: they are not metered": 0}


def test_where_no_program_verifies_the_teacher_must_say_the_same_again(tmp_path: Path) -> None:
    written = itertools.count(500)

    def answer(prompt: str, request: dict[str, Any]) -> Reply:
        if prompt.startswith("You write"):
            rows = [sum_of(next(written), 7) for _ in range(4)]
            return Reply(lines(*((r.prompt, r.completion if i else "0") for i, r in enumerate(rows))), token_count=50)
        [asked] = re.findall(r'The prompt is "add (\d+) (\d+)"', prompt)
        return Reply(json.dumps({"completion": str(int(asked[0]) + int(asked[1]))}), token_count=5)

    with ChatServer(answer) as server:
        school = School(tmp_path, server.url)
        school.stage.task = Sums(has_verifier=False)
        ready = school.answer(6)

    rows = school.stage.rows(ready)
    assert len(rows) == 6
    assert all(Sums().verify(row.prompt, row.completion) for row in rows)
    [(reason, count)] = drops(ready, "verification").items()
    assert "too few of the teacher's own answers agree" in reason
    assert count == 2
    assert ready.metering.token_count == 3 * 50 + (6 + 2) * 3 * 5


def test_where_no_program_verifies_and_the_teacher_does_not_know_nothing_is_kept(tmp_path: Path) -> None:
    good, numbers = good_teacher(), itertools.count()

    def answer(prompt: str, request: dict[str, Any]) -> str | Reply:
        return (
            good(prompt, request) if prompt.startswith("You write") else json.dumps({"completion": f"{next(numbers)}"})
        )

    with ChatServer(answer) as server:
        school = School(tmp_path, server.url, fruitless_limit=8)
        school.stage.task = Sums(has_verifier=False)
        ready = school.answer(6)

    assert ready.example_count == 0
    assert sum(drops(ready, "verification").values()) == 8
