"""Seeds in other words: by the teacher, and by the task family itself; the answer stays and is verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from builders import recipe
from chat_server import ChatServer, Reply
from generator_world import BIG, Stage, drops, sum_of

from mendloop.core.errors import InvalidRecipe
from mendloop.examples.modular.task import ModularTask

CORPUS = [sum_of(130, right) for right in range(4)]
STAR = (("operation", "star"),)


def test_the_teacher_rewrites_prompts_and_the_answers_of_the_seeds_are_kept_and_verified(tmp_path: Path) -> None:
    def answer(prompt: str, request: dict[str, Any]) -> Reply:
        assert prompt.startswith("You rewrite")
        [seed] = [json.loads(line) for line in prompt.splitlines() if line.startswith('{"prompt": "add')]
        _, left, right = seed["prompt"].split()
        said = [f"add {right} {left}", f"add {int(left) + 1} {right}"]  # one is right, the other another sum
        return Reply("\n".join(json.dumps({"prompt": one, "completion": "7"}) for one in said), token_count=5)

    teacher = {"model": "t", "asked": "alone", "ways": ["rewrite"]}
    stage = Stage(tmp_path / "artifacts")
    with ChatServer(answer) as server:
        stage.spec_parts = {"corpus": CORPUS, "recipe": recipe(task="sums", teacher={**teacher, "url": server.url})}
        ready = stage.answer(stage.plan((BIG, 10)))

    assert {(row.prompt, row.completion) for row in stage.rows(ready)} == {
        (f"add {right} 130", str(130 + right)) for right in range(4)
    }
    assert {row.source for row in stage.rows(ready)} == {"rewriter:t"}
    assert drops(ready, "verification") == {"the verifier does not confirm the answer": 4}


def test_a_task_that_knows_other_words_rewords_its_seeds(tmp_path: Path) -> None:
    task = ModularTask({})
    corpus = [row for row in task.corpus({"count": 400, "open_share": 0.0}) if row.prompt.startswith("compute")]
    stage = Stage(tmp_path / "artifacts", task=task, sources=[])
    stage.spec_parts = {"corpus": corpus, "recipe": recipe(task="modular", rewordings=True)}

    ready = stage.answer(stage.plan((STAR, 5)))

    rows = stage.rows(ready)
    known = {row.prompt.replace("compute", "what is"): row.completion for row in corpus}
    assert len(rows) == 5
    assert all(known[row.prompt] == row.completion for row in rows)
    assert {row.source for row in rows} == {"rewording:modular"}


def test_rewordings_of_a_task_that_has_none_are_refused(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "artifacts")
    stage.spec_parts = {"recipe": recipe(task="sums", rewordings=True)}

    with pytest.raises(InvalidRecipe, match="cannot say its prompts in other words"):
        stage.answer(stage.plan((BIG, 5)))
