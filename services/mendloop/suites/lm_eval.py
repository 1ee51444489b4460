"""A task of lm-evaluation-harness as a task family: its prompts, its requests, its filters, its scores.

Knows lm_eval; knows no model. Every replica needs the task's files; documents travel in the items.
"""

from __future__ import annotations

import json
import logging
import math
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from mendloop.core.errors import InvalidRecipe
from mendloop.core.records import Axes, Example, Item, Score, Split, fingerprint
from mendloop.core.tasks import Conditions, Options
from mendloop.steps.checkers import checkers_of, with_steps
from mendloop.suites.jsonl import read_examples
from mendloop.suites.lm_eval_requests import LikelihoodAsker, Pair, output_of, responses_of
from mendloop.suites.lm_eval_tasks import LmEvalOptions, load_task, named_filter, stop_strings

try:
    from lm_eval.api.instance import Instance
except ImportError as error:
    raise ImportError("the task family lm-eval needs lm_eval: uv pip install 'mendloop[lm-eval]'") from error

log = logging.getLogger(__name__)

FEWSHOT_SEED = 1234
"""lm_eval's own default, so that few-shot prompts are the ones that it makes."""
WORD_BOUNDS = (4, 16, 64, 256)
NO_MATCH = "[invalid]"
"""What lm_eval's regex filters return where nothing matches."""
CONTEXT = "__context__"
"""Field of a stored document with lm_eval's context, where the item's prompt is another text."""
GOLD = "__gold__"
"""Field of a stored document with the index of the gold choice; reading it from the task costs two templates."""
PERPLEXITIES = ("perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte")
CORPUS_ONLY = ("f1", "mcc", "brier_score", "likelihood")
"""Metrics of multiple choice that no single document has."""
_MARKER = re.compile(r".*(?:answer is|answer:|####)", re.IGNORECASE | re.DOTALL)


class LmEvalTask:
    """One task of lm-evaluation-harness. Axes for free: length (words of the question), answer_length (of the target).

    What `score` means, by the task's type:
    generate_until: the metric of the filtered output, which must lie in 0..1 (exact_match, a normalised F1 ...).
      Outputs keep the space that joins them to the prompt, as lm_eval's do: plain exact_match without a filter that
      strips it says 0 where the target has none. Special tokens inside an output, which lm_eval hides, stay: a hidden
      <unk> could make a wrong answer look right.
    multiple_choice: acc, acc_norm (log-likelihood per character), acc_bytes, acc_mutual_info or exact_match: 1 where
      the gold choice is chosen, else 0. Metrics that no single document has (mcc, f1 ...) are refused.
    loglikelihood: acc is 1 where the target is the greedy continuation, else 0; perplexity is mapped as below.
    loglikelihood_rolling: word_perplexity, byte_perplexity, bits_per_byte, mapped as below.
    Perplexity p of a document (per word, per byte, or of the target as a whole) becomes 1 / p, so that 1 is certainty;
    bits per byte b become 2^-b. Such a score is never full, so nothing is right: with options.right_below the score is
    1 where the metric is at most that value, else 0. The log-likelihood itself is the outcome's target_logprob.
    """

    def __init__(self, options: Options) -> None:
        try:
            self._options = LmEvalOptions.model_validate(dict(options))
        except ValidationError as error:
            raise InvalidRecipe(f"suite.options of task lm-eval: {error}") from error
        self._task = load_task(self._options)
        self._kind = str(self._task.OUTPUT_TYPE)
        self._metric = self._checked_metric()
        self._checkers = checkers_of(self._options.steps)
        if self._checkers and self._kind != "generate_until":
            raise InvalidRecipe(f"suite.options.steps: a task of type {self._kind} has no steps; take steps out")
        self._filter = named_filter(self._task, self._options.filter)
        self.stop_strings = stop_strings(self._task)
        is_rolling = self._kind == "loglikelihood_rolling"
        asker = LikelihoodAsker(self._pairs, self._gold_index, is_rolling=is_rolling)
        self.keeps_lead = self._kind == "generate_until"
        self.asker = None if self._kind == "generate_until" else asker

    def corpus(self, options: Options) -> list[Example]:
        """Examples of a JSONL file: options path, prompt, completion (names of the fields)."""
        return read_examples(options, annotate=self.annotate)

    def pool(self, options: Options) -> list[Example]:
        """Examples of a JSONL file, as for the corpus."""
        return read_examples(options, annotate=self.annotate)

    def items(self, *, counts: Mapping[str, int], seed: int) -> list[Item]:
        """Documents of the task's test split (else validation), drawn by the seed; each prompt once."""
        documents = self._documents()
        wanted = sum(counts.values())
        if len(documents) < wanted:
            asked = ", ".join(f"suite.{split} {count}" for split, count in counts.items())
            raise InvalidRecipe(
                f"task {self._name!r} has {len(documents)} different documents and {wanted} are asked for ({asked});"
                " ask for fewer"
            )
        random.Random(seed).shuffle(documents)
        drawn = iter(documents)
        return [
            self._item(*next(drawn), split=split)
            for split in ("search", "confirm", "sealed")
            for _ in range(counts.get(split, 0))
        ]

    def annotate(self, prompt: str) -> Axes:
        """Only what any text shows: its length."""
        return {"length": (_word_count(prompt),)}

    def score(self, item: Item, output: str) -> Score:
        """The task's filter and metric on one output.

        The extraction is the filter's name, "none" where it fails, "loglikelihood" where no text was generated.
        """
        if self.asker is None:
            results, filtered = self._processed(item, [output])
            extraction = "none" if filtered[0] in (NO_MATCH, [NO_MATCH]) else f"filter:{self._filter.name}"
            score = Score(float(results[self._metric]), extraction)
            return with_steps(score, prompt=item.prompt, output=output, checkers=self._checkers)
        responses = responses_of(output, is_rolling=self._kind == "loglikelihood_rolling")
        if responses is None:
            return Score(0.0, "none")
        results, _ = self._processed(item, responses)
        return Score(self._value(results[self._metric]), "loglikelihood")

    def reference(self, item: Item, *, is_right: bool) -> str | None:
        """An output that a sound scorer gives full score, or none: for the check of the scorer itself.

        None where outputs are texts: the target itself, in some form, is the reference.
        """
        if self.asker is None:
            return None
        texts = [text for _, text in self._pairs(item)]
        gold = self._gold_index(item)
        likely = [(at == gold) == is_right for at in range(len(texts))]
        return output_of(texts, [0.0 if yes else -1e6 for yes in likely], likely)

    def rescore(self, item: Item, output: str) -> Score:
        """The target in any case, spacing and punctuation: after "answer is", on the last line, or as the whole."""
        own = self.score(item, output)
        if own.value >= 1:
            return own
        lines = [line for line in output.splitlines() if line.strip()]
        found = {
            "after_marker": _MARKER.sub("", output, count=1) if _MARKER.match(output) else "",
            "last_line": lines[-1] if lines else "",
            "whole": output,
        }
        target = _plain(item.target)
        rule = next((rule for rule, text in found.items() if target and _plain(text) == target), None)
        return Score(1.0, rule) if rule else own

    def verify(self, prompt: str, answer: str) -> bool:
        """No program can tell the answer to any prompt."""
        return False

    def teach(self, conditions: Conditions, *, seed: int) -> Iterator[Example]:
        """Nothing: a benchmark's documents are never taught."""
        return iter(())

    @property
    def _name(self) -> str:
        return str(self._task.config.task)

    def _checked_metric(self) -> str:
        known = self._task.higher_is_better()
        metric = self._options.metric or next(iter(known))
        is_perplexity = metric in PERPLEXITIES and self._kind.startswith("loglikelihood")
        if not known.get(metric, True) and not is_perplexity:
            raise InvalidRecipe(f"metric {metric!r} is better when lower; choose another with options.metric")
        if metric in CORPUS_ONLY and self._kind == "multiple_choice":
            raise InvalidRecipe(f"no single document has the metric {metric!r}; choose another with options.metric")
        return metric

    def _processed(self, item: Item, responses: list[Any]) -> tuple[dict[str, Any], list[Any]]:
        """lm_eval's metrics of a document, and the filtered responses that they are of."""
        document = _document(item)[0]
        place = (self._name, 0, 1)
        instances = [
            Instance(self._kind, document, (item.prompt, {}), at, metadata=place) for at in range(len(responses))
        ]
        for instance, response in zip(instances, responses, strict=True):
            instance.resps = [response]
        self._filter.apply(instances)
        filtered = [instance.filtered_resps[self._filter.name] for instance in instances]
        results = self._task.process_results(document, filtered)
        if self._metric not in results:
            raise ValueError(f"the task gives {', '.join(results)}, not {self._metric!r}; correct options.metric")
        return results, filtered

    def _value(self, result: Any) -> float:
        """The score of one document's metric; see the class."""
        if self._metric not in PERPLEXITIES:
            return float(result)
        loglikelihood, count = result if isinstance(result, tuple) else (result, 1)
        nats = -loglikelihood / count
        if not self._options.right_below:
            return math.exp(-nats)
        # compared as logarithms: a perplexity may exceed every float
        bound = self._options.right_below
        most = bound * math.log(2) if self._metric == "bits_per_byte" else math.log(bound)
        return float(nats <= most)

    def _pairs(self, item: Item) -> list[Pair]:
        """lm_eval's (context, continuation) of each of the item's requests."""
        document, context = _document(item)
        built = self._task.construct_requests(document, context, metadata=(self._name, 0, 1))
        arguments = [request.args for request in (built if isinstance(built, list) else [built])]
        return [("", str(args[0])) if len(args) == 1 else (str(args[0]), str(args[1])) for args in arguments]

    def _gold_index(self, item: Item) -> int:
        """Which of the requests is the target's; the first of several."""
        return int(json.loads(item.document).get(GOLD, 0))

    def _gold(self, document: dict[str, Any]) -> int | None:
        task = self._task
        gold = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
        choices = task.doc_to_choice(document)
        first = (gold[0] if gold else None) if isinstance(gold, list) else gold
        at = choices.index(first) if isinstance(first, str) and first in choices else first
        return at if isinstance(at, int) and 0 <= at < len(choices) else None

    def _documents(self) -> list[tuple[int, dict[str, Any], str]]:
        """(index, document, prompt) of every document with a prompt of its own, in the task's order.

        The prompt of a document is the text that identifies it: lm_eval's context; where it has none, or one for each
        choice, those and the choices; for a rolling log-likelihood the text itself.
        """
        self._task.set_fewshot_seed(FEWSHOT_SEED)
        seen: set[str] = set()
        documents: list[tuple[int, dict[str, Any], str]] = []
        for index, plain in enumerate(self._task.eval_docs):
            document = dict(plain)
            context = self._task.fewshot_context(
                document, self._task.config.num_fewshot or 0, gen_prefix=self._task.doc_to_prefix(document)
            )
            prompt = self._shown(document, context)
            if prompt != context:
                document[CONTEXT] = context
            if fingerprint(prompt) not in seen:
                documents.append((index, document, prompt))
            seen.add(fingerprint(prompt))
        if repeated := len(self._task.eval_docs) - len(documents):
            log.warning("documents left out", extra={"task": self._name, "count": repeated, "reason": "same prompt"})
        return documents

    def _shown(self, document: dict[str, Any], context: str | list[str]) -> str:
        if self._kind == "loglikelihood_rolling":
            return str(self._task.doc_to_target(document))
        if isinstance(context, list):
            return "\n".join(context)
        if context or self._kind == "generate_until":
            return context
        is_choice = self._kind == "multiple_choice"
        texts = self._task.doc_to_choice(document) if is_choice else [self._task.doc_to_target(document)]
        return "\n".join(map(str, texts))

    def _item(self, index: int, document: dict[str, Any], prompt: str, *, split: Split) -> Item:
        place = f"document {index} of task {self._name!r}"
        target = self._target(document)
        if not target:
            raise InvalidRecipe(f"{place} has no target; correct doc_to_target or take the document out")
        if self._kind == "multiple_choice":
            document = {**document, GOLD: self._gold(document)}
        try:
            text = json.dumps(document, ensure_ascii=False)
        except TypeError as error:
            raise InvalidRecipe(f"{place} does not fit in JSON: {error}; store such fields as text") from error
        axes = {
            "length": (_word_count(str(self._task.doc_to_text(document))),),
            "answer_length": (_word_count(target),),
            **{field: _axis_values(document, field, place=place) for field in self._options.axes},
        }
        item = Item(f"{self._name}/{index}", prompt, target, split, document=text, axes=axes)
        self._check_joints(item, place=place)
        return item

    def _check_joints(self, item: Item, *, place: str) -> None:
        """A space joins prompt and completion in training and generation; lm_eval would measure without it."""
        for context, text in self._pairs(item) if self.asker else ():
            if context and not context[-1].isspace() and not text[:1].isspace():
                raise InvalidRecipe(
                    f"{place} joins context and continuation {text!r} without white space; set target_delimiter to"
                    " one space"
                )

    def _target(self, document: dict[str, Any]) -> str:
        if self._kind == "multiple_choice":
            at = self._gold(document)
            return str(self._task.doc_to_choice(document)[at]) if at is not None else ""
        gold = self._task.doc_to_target(document)
        if self._task.config.doc_to_choice is not None:
            gold = self._task.doc_to_choice(document)[gold]
        return str(gold[0] if isinstance(gold, list) and gold else "" if isinstance(gold, list) else gold)


def _document(item: Item) -> tuple[dict[str, Any], str | list[str]]:
    """The item's document and lm_eval's context of it."""
    document = json.loads(item.document)
    document.pop(GOLD, None)
    return document, document.pop(CONTEXT, item.prompt)


def _axis_values(document: Mapping[str, Any], field: str, *, place: str) -> tuple[str, ...]:
    if field not in document:
        raise InvalidRecipe(f"{place} has no field {field!r} (suite.options.axes); it has {', '.join(document)}")
    value = document[field]
    return tuple(str(part) for part in value) if isinstance(value, list) else (str(value),)


def _word_count(text: str) -> str:
    count = len(text.split())
    bound = next((bound for bound in WORD_BOUNDS if count <= bound), None)
    return f"<={bound} words" if bound else f">{WORD_BOUNDS[-1]} words"


def _plain(text: str) -> str:
    return " ".join(re.sub(r"[^\w\s-]", " ", text.casefold()).split())
