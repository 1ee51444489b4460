"""Principle-driven collection: prompts of the teacher's own, a violating answer, critique, revision, two detections."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from builders import example, recipe
from chat_server import ChatServer, Reply
from generator_world import Stage, drops

from mendloop.artifacts.tables import get_rows, record_of, schema_of, to_parquet
from mendloop.core.records import Example, Preference, fingerprint
from mendloop.core.wire import artifact_of
from mendloop.suites.principles import PrinciplesTask
from mendloop.v1 import intervention_pb2

POLITE = {
    "name": "no-shouting",
    "says": "Do not shout.",
    "detector": {"kind": "rule", "broken_if": "!"},
    "prompts": ["Wake my neighbour up."],
    "kept": [{"output": "Good morning."}],
    "broken": [{"output": "WAKE UP!"}],
}
SLICE = (("principle", "no-shouting"),)


class Teacher:
    """Writes three prompts a time and does each step; tests change what it says."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.prompts = [f"{verb} the {thing} in room {{n}} now" for verb, thing in (("Call", "dog"), ("Feed", "cat"))]
        self.broken, self.critique, self.revision = "NO WAY!", "It shouts.", "Gladly."

    def __call__(self, prompt: str, request: dict[str, Any]) -> Reply:
        if "that tempt it" in prompt:
            n = next(self.numbers)
            said = "\n".join(json.dumps({"prompt": one.format(n=f"{n} {n * 7} {n * 11}")}) for one in self.prompts)
        elif prompt.startswith("To teach"):
            said = json.dumps({"completion": self.broken})
        elif "Say in one or two sentences" in prompt:
            said = self.critique
        else:
            assert f"Critique: {self.critique}" in prompt
            said = json.dumps({"completion": self.revision})
        return Reply(said, token_count=10)


class School:
    """A stage for a constitution with one rule, and a teacher behind real HTTP."""

    def __init__(self, folder: Path, url: str, **settings: Any) -> None:
        path = folder / "constitution.yaml"
        folder.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({"principles": [POLITE]}))
        teacher = {"url": url, "model": "t", "variants_per_seed": 2, "fruitless_limit": 6, "timeout_s": 5.0, **settings}
        self.stage = Stage(folder / "artifacts", task=PrinciplesTask({"path": str(path)}))
        self.stage.spec_parts = {"corpus": [example("hello")], "recipe": recipe(task="principles", teacher=teacher)}

    def answer(self, count: int) -> intervention_pb2.DataBatchReady:
        return self.stage.answer(self.stage.plan((SLICE, count)))

    def pairs(self, ready: intervention_pb2.DataBatchReady) -> list[Preference]:
        return get_rows(self.stage.store, artifact_of(ready.batch), kind=Preference)


def test_a_violated_principle_yields_pairs_of_a_revision_and_the_answer_that_violates(tmp_path: Path) -> None:
    teacher = Teacher()
    with ChatServer(teacher) as server:
        school = School(tmp_path, server.url)
        ready = school.answer(5)

    pairs = school.pairs(ready)
    assert (ready.record, ready.example_count) == ("Preference", 5)
    assert record_of(school.stage.store, artifact_of(ready.batch)) == "Preference"
    assert {(pair.chosen, pair.rejected, pair.source) for pair in pairs} == {("Gladly.", "NO WAY!", "critic:t")}
    assert {tuple(pair.axes.items()) for pair in pairs} == {(("principle", ("no-shouting",)), ("detector", ("rule",)))}
    assert len({pair.prompt for pair in pairs}) == 5
    assert ready.metering.token_count == 10 * len(server.asked) == 10 * 3 * (1 + 2 + 2 + 2)


def test_the_teacher_never_sees_an_evaluation_prompt(tmp_path: Path) -> None:
    with ChatServer(Teacher()) as server:
        School(tmp_path, server.url).answer(3)

    assert POLITE["prompts"][0] not in json.dumps(server.asked)
    assert "WAKE UP!" in json.dumps(server.asked), "labelled answers are shown"


@pytest.mark.parametrize(
    ("changes", "stage", "reason", "count"),
    [
        ({"revision": "OK!"}, "verification", "the revision still violates the principle", 6),
        ({"broken": "Fine."}, "verification", "the answer to be rejected does not violate the principle", 6),
        ({"revision": "NO WAY!"}, "teacher", "the revision is the answer that it should revise", 6),
        ({"critique": " "}, "teacher", "no critique", 6),
        ({"prompts": []}, "teacher", "the reply holds no example", 6),
        ({"prompts": ["Wake my neighbour up."]}, "decontamination", "its prompt is an evaluation item", 6),
    ],
)
def test_what_is_no_pair_is_dropped_with_its_reason_and_ends_the_teacher(
    tmp_path: Path, changes: dict[str, Any], stage: str, reason: str, count: int
) -> None:
    teacher = Teacher()
    for name, value in changes.items():
        setattr(teacher, name, value)
    with ChatServer(teacher) as server:
        school = School(tmp_path, server.url)
        school.stage.spec_parts["fingerprints"] = [fingerprint(POLITE["prompts"][0])]  # type: ignore[arg-type,index]
        ready = school.answer(5)

    assert ready.example_count == 0
    assert school.pairs(ready) == []
    assert drops(ready, stage) == {reason: count}
    assert "cut off after 6 candidates in a row" in next(iter(drops(ready, "source")))
    assert drops(ready, "budget") == {"principle=no-shouting: 0 of 5 ordered pairs were found": 0}


def test_prompts_that_repeat_themselves_are_dropped(tmp_path: Path) -> None:
    teacher = Teacher()
    teacher.prompts = ["Call the dog now", "call the dog  now", "Call the dog now."]
    with ChatServer(teacher) as server:
        ready = School(tmp_path, server.url, variants_per_seed=3).answer(5)

    assert ready.example_count == 1
    assert set(drops(ready, "duplicate")) == {"its prompt is in the batch"}
    assert set(drops(ready, "near-duplicate")) == {"almost a prompt of the batch"}


def test_a_dead_teacher_ends_the_slice(tmp_path: Path) -> None:
    with ChatServer(lambda prompt, request: Reply(status=500, raw=b"dead")) as server:
        ready = School(tmp_path, server.url, attempts=1).answer(5)

    assert re.search("gave up after 0 candidates: .*answered 500", next(iter(drops(ready, "source"))))


class Shouting:
    """A student that shouts at whoever asks, and stays calm about cats."""

    token_count = 0

    def answers(self, prompts: Sequence[str], *, temperature: float, seed: int) -> list[str]:
        self.token_count += len(prompts)
        return ["Meow." if "cat" in prompt else "NEVER! " for prompt in prompts]


def test_the_violating_answers_may_be_those_of_the_checkpoint_that_failed(tmp_path: Path) -> None:
    with ChatServer(Teacher()) as server:
        school = School(tmp_path, server.url, violations="student", fruitless_limit=50)
        school.stage.student = Shouting()
        ready = school.answer(3)

    pairs = school.pairs(ready)
    assert {(pair.rejected, "dog" in pair.prompt) for pair in pairs} == {("NEVER!", True)}
    assert set(drops(ready, "verification")) == {"the answer to be rejected does not violate the principle"}
    assert not [one for one in server.asked if one["messages"][0]["content"].startswith("To teach")]
    assert ready.metering.token_count == 10 * len(server.asked) + 6


def test_without_a_teacher_principles_get_an_empty_batch_of_examples(tmp_path: Path) -> None:
    school = School(tmp_path, "http://nowhere/v1")
    school.stage.spec_parts["recipe"] = recipe(task="principles")
    ready = school.answer(5)

    assert (ready.example_count, ready.record) == (0, "")
    assert record_of(school.stage.store, artifact_of(ready.batch)) == "Example"


def test_preferences_have_the_columns_that_trainers_expect() -> None:
    assert schema_of(Preference).names == ["prompt", "chosen", "rejected", "source", "axes"]
    assert to_parquet([Preference("p", "a", "b", "s")], kind=Preference) != to_parquet(
        [Example("p", "a", "s")], kind=Example
    )


@pytest.mark.parametrize("texts", [("", "a", "b"), ("p", "", "b"), ("p", "a", ""), ("p", "a", "a")])
def test_a_preference_needs_a_prompt_and_two_different_answers(texts: tuple[str, str, str]) -> None:
    with pytest.raises(ValueError, match=r"empty prompt or answer|prefers an answer to itself"):
        Preference(*texts, source="s")
