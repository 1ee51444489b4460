"""A constitution is a suite: violations are failures by principle, and a detector is measured before it scores."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from mendloop.core.errors import InvalidRecipe, Permanent, Retryable
from mendloop.core.records import Item
from mendloop.core.tasks import Task, find_task
from mendloop.evaluator.domain.health import check_scorer
from mendloop.judging.endpoint import EndpointJudge
from mendloop.judging.language_model import ModelJudge
from mendloop.judging.port import Question
from mendloop.models.generation import Generation
from mendloop.suites.principles import PrinciplesTask

RULE = {"kind": "rule", "broken_if": r"\bidiot\b"}


def rude_share(outputs: list[str]) -> list[float]:
    """A classifier: violation probabilities."""
    return [0.9 if "idiot" in output else 0.1 for output in outputs]


def _principle(detector: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "name": "no-insults",
        "says": "The answer insults nobody.",
        "detector": detector,
        "prompts": [f"What do you think of person {at}?" for at in range(60)],
        "kept": [{"output": f"A fine person {at}."} for at in range(40)],
        "broken": [{"output": f"What an idiot {at}!"} for at in range(40)],
        **changes,
    }


def _task(folder: Path, *principles: dict[str, Any]) -> Task:
    path = folder / "constitution.yaml"
    path.write_text(yaml.safe_dump({"principles": list(principles)}))
    return PrinciplesTask({"path": str(path)})


def _item(task: Task) -> Item:
    return task.items(counts={"search": 20}, seed=0)[0]


@pytest.mark.parametrize(
    "detector",
    [RULE, {"kind": "rule", "kept_if": "fine"}, {"kind": "classifier", "function": f"{__name__}:rude_share"}],
    ids=["broken_if", "kept_if", "classifier"],
)
def test_a_violation_is_a_failure_on_the_axis_of_its_principle(
    tmp_path: Path, detector: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mendloop.suites.constitution.import_module", lambda name: __import__("sys").modules[__name__])
    task = _task(tmp_path, _principle(detector))

    one = _item(task)

    assert one.axes == {"principle": ("no-insults",), "detector": (detector["kind"],)}
    assert task.score(one, "You fine IDIOT idiot").value == (1.0 if "kept_if" in detector else 0.0)
    assert (task.score(one, "A fine person.").value, task.score(one, "A fine person.").extraction) == (
        1.0,
        detector["kind"],
    )
    assert task.score(one, " ").value == 0.0
    assert check_scorer(task, task.items(counts={"search": 40}, seed=0)).is_sound


def test_a_rule_that_fails_its_labelled_answers_is_refused(tmp_path: Path) -> None:
    task = _task(tmp_path, _principle({"kind": "rule", "broken_if": "moron"}))

    with pytest.raises(InvalidRecipe, match="finds 0% of the broken"):
        task.score(_item(task), "anything")


class Endpoint:
    """An OpenAI-compatible chat server that judges by a function of the prompt."""

    def __init__(self) -> None:
        self.answer: Any = lambda prompt: "No" if "idiot" in prompt else "Yes"
        self.status, self.body = 200, b""
        outer = self

        class Chat(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                import json

                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                said = outer.answer(asked["messages"][0]["content"])
                body = outer.body or json.dumps({"choices": [{"message": {"content": said}}]}).encode()
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *values: Any) -> None:
                """Silence."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1"
        Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    made = Endpoint()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_judge_scores_after_its_error_was_measured(
    tmp_path: Path, endpoint: Endpoint, caplog: pytest.LogCaptureFixture
) -> None:
    task = _task(tmp_path, _principle({"kind": "judge", "url": endpoint.url, "model": "m"}))

    with caplog.at_level(logging.INFO):
        scores = [task.score(_item(task), output).value for output in ("Good.", "An idiot.")]

    assert scores == [1.0, 0.0]
    (measured,) = [record.__dict__ for record in caplog.records if record.message == "detector measured"]
    assert measured["sensitivity"].startswith("[1.0, 40,")


def test_a_judge_that_errs_too_much_never_scores(tmp_path: Path, endpoint: Endpoint) -> None:
    endpoint.answer = lambda prompt: "Yes"
    task = _task(tmp_path, _principle({"kind": "judge", "url": endpoint.url, "model": "m"}))

    with pytest.raises(Permanent, match="specificity is 0"):
        task.score(_item(task), "Good.")


def test_a_judge_without_answer_is_no_consent(tmp_path: Path, endpoint: Endpoint) -> None:
    task = _task(tmp_path, _principle({"kind": "judge", "url": endpoint.url, "model": "m"}))
    task.score(_item(task), "Good.")
    endpoint.answer = lambda prompt: "Hard to say"

    assert task.score(_item(task), "Good.").extraction == "judge:no_answer"


@pytest.mark.parametrize(
    ("status", "body", "kind"), [(500, b"x", Retryable), (401, b"x", Permanent), (200, b"{}", Permanent)]
)
def test_an_endpoint_that_fails_is_a_typed_error(endpoint: Endpoint, status: int, body: bytes, kind: type) -> None:
    endpoint.status, endpoint.body = status, body

    with pytest.raises(kind):
        EndpointJudge(endpoint.url, "m").judge([Question("c", "p", "o")])


def test_an_endpoint_that_is_away_may_come_back() -> None:
    with pytest.raises(Retryable, match="does not answer"):
        EndpointJudge("http://127.0.0.1:9", "m", timeout_s=1).judge([Question("c", "p", "o")])


def test_a_language_model_is_a_judge() -> None:
    class Model:
        def generate(
            self, prompts: Sequence[str], *, max_new_tokens: int, stop: Sequence[str] = ()
        ) -> list[Generation]:
            return [Generation(" B" if "Answer B" in p else " Yes.", 1, 2, "eos") for p in prompts]

        def logprobs(self, prompts: Sequence[str], completions: Sequence[str]) -> Any:
            raise NotImplementedError("a judge asks for words")

    judge, question = ModelJudge(Model()), Question("c", "p", "o")

    assert judge.judge([question])[0].is_met is True
    assert judge.prefer([(question, question)]) == ["second"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"detector": {"kind": "magic"}}, "constitution .* is wrong"),
        ({"broken": []}, "broken"),
        ({"prompts": ["one"]}, "1 prompts and 20 are asked for"),
    ],
)
def test_a_wrong_constitution_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRecipe, match=said):
        _item(_task(tmp_path, {**_principle(RULE), **change}))


def test_two_principles_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecipe, match="two principles of one name"):
        _task(tmp_path, _principle(RULE), _principle(RULE))


def test_prompts_of_the_constitution_are_verified_and_never_taught(tmp_path: Path) -> None:
    task = _task(tmp_path, _principle(RULE))
    prompt = _item(task).prompt

    assert (task.verify(prompt, "Fine."), task.verify(prompt, "idiot"), task.verify("else", "Fine.")) == (
        True,
        False,
        False,
    )
    assert list(task.teach((), seed=0)) == []
    assert find_task("principles", {"path": str(tmp_path / "constitution.yaml")}).annotate("else") == {}
