"""Every type of lm-evaluation-harness task scores through our shards what lm_eval's own hf backend scores."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from builders import item

from mendloop.core.errors import InvalidRecipe
from mendloop.core.tasks import find_task
from mendloop.models.generation import Generation, TokenLogprobs

pytest.importorskip("lm_eval", reason="lm_eval is not installed (extra lm-eval)")

from lm_eval_world import expected, lm_eval_samples, regex_tokenizer, rows, through_the_evaluator, written
from tiny_models import tiny_llama

from mendloop.models.transformers_backend import TransformersModel
from mendloop.suites import lm_eval_tasks
from mendloop.suites.lm_eval_requests import LikelihoodAsker

DOCUMENTS = rows(60)
METRICS = [
    ("generate_until", "exact_match"),
    ("multiple_choice", "acc"),
    ("multiple_choice", "acc_norm"),
    ("multiple_choice", "acc_bytes"),
    ("multiple_choice", "acc_mutual_info"),
    ("loglikelihood", "acc"),
    ("loglikelihood", "perplexity"),
    ("loglikelihood_rolling", "word_perplexity"),
    ("loglikelihood_rolling", "byte_perplexity"),
    ("loglikelihood_rolling", "bits_per_byte"),
]

BOS_METRICS = [
    ("generate_until", "exact_match"),
    ("multiple_choice", "acc_mutual_info"),
    ("loglikelihood", "perplexity"),
    ("loglikelihood_rolling", "word_perplexity"),
]


@pytest.fixture(scope="module")
def model() -> Any:
    tokenizer = regex_tokenizer([f"{row['question']} {row['answer']} {row['text']}" for row in DOCUMENTS])
    return tiny_llama(len(tokenizer), context=64, seed=2), tokenizer


@pytest.mark.parametrize(("kind", "metric"), METRICS)
def test_every_item_scores_as_in_lm_eval(tmp_path: Path, model: Any, kind: str, metric: str) -> None:
    path = written(
        tmp_path, kind, _greedy(DOCUMENTS, model) if (kind, metric) == ("loglikelihood", "acc") else DOCUMENTS
    )
    theirs = lm_eval_samples(path, *model)
    ours = TransformersModel(*model, name="tiny")

    outcomes = through_the_evaluator(
        tmp_path / "stores", {"path": str(path), "metric": metric}, ours, count=60, max_new_tokens=8
    )

    scores = {int(outcome.item_id.rpartition("/")[2]): outcome.score for outcome in outcomes}
    assert scores == {at: pytest.approx(expected(sample, metric), rel=1e-4) for at, sample in theirs.items()}
    assert len(scores) == 60
    assert len({round(score, 9) for score in scores.values()}) > (1 if kind != "generate_until" else 0)


@pytest.mark.parametrize(("kind", "metric"), BOS_METRICS)
def test_every_item_scores_as_in_lm_eval_where_the_tokenizer_adds_bos(tmp_path: Path, kind: str, metric: str) -> None:
    documents = [*DOCUMENTS[:59], {**DOCUMENTS[59], "text": f"<s>{DOCUMENTS[59]['text']}"}]
    tokenizer = regex_tokenizer(
        [f"{row['question']} {row['answer']} {row['text']}" for row in documents], adds_bos=True
    )
    llama = tiny_llama(len(tokenizer), context=64, seed=2)
    path = written(tmp_path, kind, documents)
    theirs = lm_eval_samples(path, llama, tokenizer)

    outcomes = through_the_evaluator(
        tmp_path / "stores",
        {"path": str(path), "metric": metric},
        TransformersModel(llama, tokenizer, name="tiny"),
        count=60,
        max_new_tokens=8,
    )

    scores = {int(outcome.item_id.rpartition("/")[2]): outcome.score for outcome in outcomes}
    assert scores == {at: pytest.approx(expected(sample, metric), rel=1e-4) for at, sample in theirs.items()}
    assert len(scores) == 60


def test_a_target_has_lm_evals_log_likelihood(tmp_path: Path, model: Any) -> None:
    path = written(tmp_path, "multiple_choice", DOCUMENTS)
    theirs = lm_eval_samples(path, *model)

    outcomes = through_the_evaluator(
        tmp_path / "stores", {"path": str(path)}, TransformersModel(*model, name="t"), count=60
    )

    for outcome in outcomes:
        sample = theirs[int(outcome.item_id.rpartition("/")[2])]
        gold = sample["filtered_resps"][sample["doc"]["gold"]]
        assert outcome.target_logprob == pytest.approx(float(gold[0]), rel=1e-4)


def test_few_shot_choices_and_choices_in_the_context_score_as_in_lm_eval(tmp_path: Path, model: Any) -> None:
    changes: dict[str, Any] = {
        "doc_to_text": "{{gold}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "was said about {{question}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    documents = [{**row, "choices": [f"{row['question']} {choice}" for choice in row["choices"]]} for row in DOCUMENTS]
    path = written(tmp_path, "multiple_choice", documents, **changes)
    theirs = lm_eval_samples(path, *model)

    outcomes = through_the_evaluator(
        tmp_path / "stores", {"path": str(path)}, TransformersModel(*model, name="t"), count=len(theirs)
    )

    assert {int(o.item_id.rpartition("/")[2]): o.score for o in outcomes} == {at: s["acc"] for at, s in theirs.items()}


@pytest.mark.parametrize(("bound", "right"), [(1e9, 1.0), (1.0001, 0.0)])
def test_with_a_bound_a_perplexity_is_right_or_wrong(tmp_path: Path, bound: float, right: float) -> None:
    path = written(tmp_path, "loglikelihood_rolling", DOCUMENTS)
    task = find_task("lm-eval", {"path": str(path), "right_below": bound})
    (one, *_) = task.items(counts={"search": 20}, seed=0)

    said = '{"loglikelihoods": [-50.0], "greedy": [false]}'

    assert task.score(one, said).value == right
    assert find_task("lm-eval", {"path": str(path)}).score(one, said).value == pytest.approx(
        math.exp(-50.0 / len(one.target.split(" ")))
    )


def test_what_is_no_log_likelihood_scores_nothing(tmp_path: Path) -> None:
    task = find_task("lm-eval", {"path": str(written(tmp_path, "multiple_choice", DOCUMENTS))})
    (one, *_) = task.items(counts={"search": 20}, seed=0)

    assert [task.score(one, output).extraction for output in ("", "yes", "{}", "[1]")] == ["none"] * 4


@pytest.mark.parametrize("lead", ["", " "])
def test_exact_match_counts_the_space_in_front_as_lm_eval_does(tmp_path: Path, model: Any, lead: str) -> None:
    documents = _saying(rows(90), model, tokens=8)
    path = written(tmp_path, "generate_until", documents, doc_to_target=lead + "{{answer}}")
    theirs = lm_eval_samples(path, *model)

    outcomes = through_the_evaluator(
        tmp_path / "stores", {"path": str(path)}, TransformersModel(*model, name="t"), count=60, max_new_tokens=8
    )

    found = {int(o.item_id.rpartition("/")[2]): o for o in outcomes}
    assert {at: o.score for at, o in found.items()} == {at: s["exact_match"] for at, s in theirs.items()}
    assert {at: o.output for at, o in found.items()} == {at: s["resps"][0][0] for at, s in theirs.items()}
    assert sum(o.output[:1] == " " for o in outcomes) > 5, "this test needs outputs with a space in front"
    assert {o.score for o in outcomes} == {0.0, 1.0}


def test_texts_are_scored_with_the_bos_that_the_tokenizer_adds() -> None:
    tokenizer = regex_tokenizer(["a text"], vocabulary=300, adds_bos=True)
    model = TransformersModel(tiny_llama(len(tokenizer), seed=2), tokenizer, name="tiny")

    (own,), (plain,) = model.text_logprobs(["a text"]), model.continuation_logprobs([""], ["a text"])

    assert len(own.tokens) == len(plain.tokens) + 1 == len(tokenizer("a text").input_ids)


def test_a_backend_that_does_not_tell_is_asked_for_its_greedy_output() -> None:
    class Silent:
        def generate(self, prompts: Any, *, max_new_tokens: int, stop: Any = ()) -> list[Generation]:
            return [Generation("yes", 1, max_new_tokens, "length") for _ in prompts]

        def logprobs(self, prompts: Any, completions: Any) -> list[TokenLogprobs]:
            return [TokenLogprobs((-1.0,), -1.0) for _ in prompts]

    asker = LikelihoodAsker(lambda one: [("A:", " yes"), ("A:", " no")], lambda one: 1)

    (output,), (target,) = asker.ask([item()], model=Silent(), prompt=str)

    assert '"greedy": [true, false]' in output.text
    assert (sum(target.tokens) + target.eos, target.is_greedy) == (-1.0, False)


@pytest.mark.parametrize(
    ("kind", "changes", "options", "said"),
    [
        ("multiple_choice", {"target_delimiter": ""}, {}, "without white space"),
        ("multiple_choice", {"metric_list": [{"metric": "mcc"}]}, {}, "no single document"),
        ("generate_until", {"metric_list": [{"metric": "ter"}]}, {}, "better when lower"),
    ],
)
def test_what_cannot_be_measured_as_lm_eval_does_is_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    path = written(tmp_path, kind, DOCUMENTS, **changes)

    with pytest.raises(InvalidRecipe, match=said):
        find_task("lm-eval", {"path": str(path), **options}).items(counts={"search": 20}, seed=0)


def test_a_gold_choice_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "multiple_choice", [*DOCUMENTS[1:], {**DOCUMENTS[0], "gold": 9}])

    with pytest.raises(InvalidRecipe, match=r"document 59 .* has no target"):
        find_task("lm-eval", {"path": str(path)}).items(counts={"search": 60}, seed=0)


def test_without_a_path_the_task_is_lm_evals_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "multiple_choice", DOCUMENTS)
    entry = type("Entry", (), {"yaml_path": path})
    monkeypatch.setattr(lm_eval_tasks, "_own_tasks", lambda: {"made_multiple_choice": entry})

    task = find_task("lm-eval", {"task": "made_multiple_choice"})

    assert len(task.items(counts={"search": 20}, seed=0)) == 20
    with pytest.raises(InvalidRecipe, match="no single task of lm_eval"):
        find_task("lm-eval", {"task": "unheard_of"})


def _greedy(documents: list[dict[str, Any]], model: Any) -> list[dict[str, Any]]:
    """The documents; the model's own next token is the answer where it is a word after a space."""
    llama, tokenizer = model
    made = []
    for row in documents:
        ids = tokenizer(f"Q: {row['question']}\nA:", return_tensors="pt").input_ids
        said = tokenizer.decode(llama(ids).logits[0, -1].argmax())
        is_word = said[:1] == " " and said[1:2].isalnum()
        made.append({**row, "answer": said[1:]} if is_word else row)
    return made


def _saying(documents: list[dict[str, Any]], model: Any, *, tokens: int) -> list[dict[str, Any]]:
    """The first 60 documents whose output shows all that was said, with that output, stripped, as their answer.

    lm_eval hides special tokens, and goes on after the EOS of a model whose configuration names none.
    """
    prompts = [f"Q: {row['question']}\nA:" for row in documents]
    outputs = TransformersModel(*model, name="tiny").generate(prompts, max_new_tokens=tokens, stop=["\n"])
    made = [
        {**row, "answer": output.text.strip()}
        for row, output in zip(documents, outputs, strict=True)
        if output.text.strip() and "<s>" not in output.text and output.stop_reason != "eos"
    ]
    return made[:60]
