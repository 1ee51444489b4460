"""Logs that inspect_ai really writes, in both of its formats, are read sample by sample."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from mendloop.core.errors import InvalidResults
from mendloop.suites.importers.collecting import Options
from mendloop.suites.importers.reading import format_of, read_results

pytest.importorskip("inspect_ai", reason="inspect_ai is not installed (extra inspect)")


def _log(folder: Path, *, kind: str, fails_on: str = "", target: str = "4") -> Path:
    """A log of two items in two epochs, answered by inspect_ai's mock model."""
    from inspect_ai import Task
    from inspect_ai import eval as run
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import includes, match

    texts = cycle(["The answer is 2", "5"])

    def answer(messages: Any, *rest: Any) -> ModelOutput:
        if fails_on and fails_on in messages[-1].text:
            raise RuntimeError("the server died")
        stop = "max_tokens" if "2 + 2" in messages[-1].text else "stop"
        output = ModelOutput.from_content("mockllm/model", next(texts), stop_reason=stop)
        output.usage = ModelUsage(input_tokens=7, output_tokens=3, total_tokens=10)  # else it fetches a tokenizer
        return output

    samples = [
        Sample(id="one", input="1 + 1 =", target="2", metadata={"op": "plus", "page": 1}),
        Sample(id="two", input="2 + 2 =", target=target, metadata={"op": "plus", "page": 1}),
    ]
    made = Task(dataset=MemoryDataset(samples), scorer=[match(), includes()], epochs=2, name="sums")
    (log,) = run(
        made,
        model=get_model("mockllm/model", custom_outputs=answer, memoize=False),
        log_dir=str(folder),
        log_format=kind,
        display="none",
        fail_on_error=False,
        max_samples=1,
    )
    return Path(log.location.removeprefix("file://"))


@pytest.mark.parametrize("kind", ["eval", "json"])
def test_samples_become_outcomes_with_epochs_as_repeats(tmp_path: Path, kind: str) -> None:
    file = _log(tmp_path, kind=kind)

    found = read_results(file, options=Options(axes=("op",), group="page"))

    assert format_of(file) == "inspect"
    assert sorted((row.item_id, row.repeat_index) for row in found.outcomes) == [
        ("sums/one", 0),
        ("sums/one", 1),
        ("sums/two", 0),
        ("sums/two", 1),
    ]
    one = next(row for row in found.outcomes if row.item_id == "sums/one")
    assert (one.prompt, one.target, one.prompt_token_count, one.output_token_count) == ("1 + 1 =", "2", 7, 3)
    assert one.axes == {"task": ("sums",), "op": ("plus",), "group": ("1",)}
    assert all(row.score == float(row.output.endswith(row.target)) for row in found.outcomes)
    assert {row.item_id: row.stop_reason for row in found.outcomes} == {"sums/one": "eos", "sums/two": "length"}
    assert found.notes == {"sample with 2 scorers ('match' is read)": 4}


def test_samples_that_failed_are_dropped_with_the_reason(tmp_path: Path) -> None:
    found = read_results(_log(tmp_path, kind="eval", fails_on="2 + 2"))

    assert {row.item_id for row in found.outcomes} == {"sums/one"}
    assert found.dropped == {"sample that failed with an error in inspect_ai": 2}


def test_a_sample_without_target_and_an_unknown_scorer_are_refused(tmp_path: Path) -> None:
    file = _log(tmp_path, kind="json", target="")

    with pytest.raises(InvalidResults, match=r"sample 'two', epoch 1: field 'target' is ''"):
        read_results(file)
    with pytest.raises(InvalidResults, match=r"there is no scorer 'judge'; there are match, includes"):
        read_results(file, options=Options(scorer="judge"))


def test_a_broken_log_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "half.eval"
    bad.write_bytes(_log(tmp_path / "good", kind="eval").read_bytes()[:400])

    with pytest.raises(InvalidResults, match=r"half\.eval cannot be read as an inspect_ai log"):
        read_results(bad)
