"""An inspect_ai task through our path scores what inspect_ai itself scores, sample by sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mendloop.core.errors import InvalidRecipe
from mendloop.core.tasks import Task, find_task
from mendloop.evaluator.domain.health import check_scorer

inspect_ai = pytest.importorskip("inspect_ai", reason="inspect_ai is not installed (extra inspect)")

SOURCE = """
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import choice, includes, match
from inspect_ai.solver import generate, multiple_choice, prompt_template, system_message

@task
def sums(scorer="match"):
    samples = [
        Sample(input=f"{a} + {b} =", target=str(a + b), id=f"{a}-{b}", metadata={"carry": a + b > 9})
        for a in range(6) for b in range(6)
    ]
    return Task(
        dataset=MemoryDataset(samples),
        solver=[system_message("You add."), prompt_template("Sum: {prompt}"), generate()],
        scorer=match() if scorer == "match" else includes(),
    )

@task
def choices():
    samples = [
        Sample(input=f"Half of {2 * n}?", choices=[str(n), str(n + 1), str(n + 2)][::1 if n % 2 else -1],
               target="A" if n % 2 else "C")
        for n in range(36)
    ]
    return Task(dataset=MemoryDataset(samples), solver=multiple_choice(), scorer=choice())

@task
def twice():
    return Task(dataset=MemoryDataset([Sample(input="a", target="b")]), solver=[generate(), generate()], scorer=match())
"""
COUNTS = {"search": 24, "confirm": 12}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "made_tasks.py"
    file.write_text(SOURCE)
    return file


def _task(path: Path, name: str, **options: Any) -> Task:
    return find_task("inspect", {"path": str(path), "task": name, **options})


def test_the_prompt_is_what_the_solver_makes_and_axes_come_from_metadata(path: Path) -> None:
    task = _task(path, "sums", axes=["carry"])

    items = task.items(counts=COUNTS, seed=0)

    assert all(item.prompt.startswith("You add.\n\nSum: ") for item in items)
    assert {item.axes["carry"] for item in items} == {("True",), ("False",)}
    assert [item.split for item in items] == ["search"] * 24 + ["confirm"] * 12
    assert items == task.items(counts=COUNTS, seed=0)
    assert items != task.items(counts=COUNTS, seed=1)


@pytest.mark.parametrize("name", ["sums", "choices"])
def test_every_sample_scores_as_in_inspect_ai(path: Path, name: str, tmp_path: Path) -> None:
    from inspect_ai import eval as inspect_eval
    from inspect_ai.model import ModelOutput, ModelUsage, get_model

    task = _task(path, name)
    count = 36
    items = {item.prompt: item for item in task.items(counts={"search": count}, seed=0)}
    said = {
        prompt: (
            f"ANSWER: {'ABC'[at % 3]}" if name == "choices" else (item.target, "17", "", f"It is {item.target}")[at % 4]
        )
        for at, (prompt, item) in enumerate(items.items())
    }

    def answer(messages: Any, *_: Any) -> ModelOutput:
        output = ModelOutput.from_content("mockllm/model", said["\n\n".join(m.text for m in messages)])
        output.usage = ModelUsage(input_tokens=7, output_tokens=3, total_tokens=10)  # else it fetches a tokenizer
        return output

    model = get_model("mockllm/model", custom_outputs=answer, memoize=False)
    (log,) = inspect_eval(f"{path}@{name}", model=model, log_dir=str(tmp_path / "logs"), display="none")

    assert log.status == "success", log.error
    theirs = {}
    for sample in log.samples or []:
        prompt = "\n\n".join(message.text for message in sample.messages if message.role != "assistant")
        (score,) = (sample.scores or {}).values()
        theirs[prompt] = float(score.value == "C")
    assert {prompt: task.score(item, said[prompt]).value for prompt, item in items.items()} == theirs
    assert 0 < sum(theirs.values()) < len(theirs)


@pytest.mark.parametrize("name", ["sums", "choices"])
def test_its_scorer_is_sound(path: Path, name: str) -> None:
    task = _task(path, name)

    assert check_scorer(task, task.items(counts=COUNTS, seed=0)).is_sound


@pytest.mark.parametrize(("name", "said"), [("twice", "asks the model 2 times"), ("nothing", "cannot be made")])
def test_what_cannot_be_measured_is_refused(path: Path, name: str, said: str) -> None:
    with pytest.raises(InvalidRecipe, match=said):
        _task(path, name).items(counts={"search": 1}, seed=0)
