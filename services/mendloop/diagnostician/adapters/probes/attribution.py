"""Which training examples taught the model the wrong outputs of a slice? Influence on output against target.

A bounded part of the corpus is looked at: what is most like the failures, and examples at random. Proponents in the
slice with wrong labels are what misled the model; proponents outside it are what it generalises from. A verifier
says False also where it cannot tell: the share among all examples that were looked at is the control.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from mendloop.attribution.adapters.gradients import open_source
from mendloop.attribution.adapters.retrieval import Bm25
from mendloop.attribution.domain.ranking import Ranked, Ranking, likeliest
from mendloop.attribution.domain.settings import IndexSettings
from mendloop.attribution.engine import Attribution, Failure
from mendloop.attribution.index import build_index
from mendloop.attribution.ports import Text
from mendloop.core.records import Example
from mendloop.core.tasks import matches
from mendloop.diagnostician.domain.case import Case, Observation, Sample
from mendloop.diagnostician.domain.evidence import Attachment, Evidence, missing, share
from mendloop.diagnostician.domain.probing import CostClass

NAME = "attribution"
SAME_SLICE = "same_slice_share"
WRONG_LABEL = "wrong_label_share"
TOP = 20
MOST_SEARCHED = 4000
"""Distinct examples that retrieval looks at; indexing them takes about a second."""


@dataclass(frozen=True, slots=True)
class _Looked:
    """The examples that influence is computed for, and the whole that they were taken from."""

    examples: tuple[Example, ...]
    of: int


class AttributionProbe:
    """Builds an index of the examples at hand and asks it for proponents of the failures."""

    name = NAME
    cost_class = CostClass.SEARCHED

    def __init__(self, *, size: int = 384, cache: Path | None = None) -> None:
        """size: most examples whose gradients are computed. cache: folder where indexes stay; None keeps none."""
        self._size = size
        self._cache = cache

    def run(self, case: Case) -> tuple[Evidence, ...]:
        """Per sample: share of the strongest proponents that lie in the slice, and share whose label is refuted."""
        if case.weights is None:
            return _missing(case, "The checkpoint's weights are not at hand, so there are no gradients.")
        failed = [row for sample in case.samples for row in sample.failed]
        distinct = list({(row.prompt, row.completion): row for row in case.corpus}.values())
        if not failed or not distinct:
            return _missing(case, "There is no failed item." if distinct else "There is no training corpus.")
        looked = _looked_at(case, failed, distinct, size=self._size)
        texts = [_text(case, row.prompt, row.completion) for row in looked.examples]
        eos_in_loss = case.training is None or case.training.settings.eos_in_loss
        source = open_source(case.weights(), settings=IndexSettings(eos_in_loss=eos_in_loss))
        with _folder(self._cache) as root:
            index, _ = build_index(source, texts, root=root)
            attribution = Attribution(index, source, texts, retriever=Bm25())
            return tuple(row for sample in case.samples for row in _rows(case, sample, attribution, looked))


@contextmanager
def _folder(cache: Path | None) -> Iterator[Path]:
    if cache is not None:
        yield cache
        return
    with TemporaryDirectory(prefix="mendloop-attribution-") as scratch:
        yield Path(scratch)


def _looked_at(case: Case, failed: Sequence[Observation], distinct: list[Example], *, size: int) -> _Looked:
    rng = random.Random(case.seed)
    searched = rng.sample(distinct, min(MOST_SEARCHED, len(distinct)))
    if len(searched) <= size:
        return _Looked(tuple(searched), len(distinct))
    retriever = Bm25()
    retriever.fit([f"{row.prompt} {row.completion}" for row in searched])
    likeness = retriever.scores([f"{row.item.prompt} {row.item.target}" for row in failed])
    alike = likeliest(likeness, count=max(1, size // 2 // len(failed)))
    others = sorted(set(range(len(searched))) - set(alike))
    chosen = [*alike, *rng.sample(others, min(len(others), size - len(alike)))]
    return _Looked(tuple(searched[at] for at in chosen), len(distinct))


def _text(case: Case, prompt: str, completion: str) -> Text:
    """As the training saw it, where its template is known."""
    template = case.training.template if case.training is not None else None
    return Text((template or case.template)(prompt), completion)


def _failures(case: Case, sample: Sample) -> list[Failure]:
    """Whole wrong outputs as what is asked for, each against its target."""
    whole = [row for row in sample.failed if row.outcome.stop_reason != "length" and row.outcome.output.strip()]
    asked = [row for row in whole if row.outcome.output.strip() != row.item.target.strip()]
    return [Failure(case.template(row.item.prompt), row.outcome.output, wrong_output=row.item.target) for row in asked]


def _rows(case: Case, sample: Sample, attribution: Attribution, looked: _Looked) -> Iterator[Evidence]:
    failures = _failures(case, sample)
    if not failures:
        why = f"None of {len(sample.failed)} failed items has a whole output other than its target."
        yield from (missing(NAME, row, reading=why, sample=sample.name) for row in _MEASURED)
        return
    ranking = attribution.rank(failures, top=TOP)
    top = [looked.examples[row.at] for row in ranking.proponents]
    inside = sum(matches(row.axes, case.conditions) for row in looked.examples)
    same = sum(matches(row.axes, case.conditions) for row in top)
    reading = (
        f"{same} of the {len(top)} training examples that speak most for {len(failures)} wrong outputs against their "
        f"targets lie in the slice; {inside} of the {len(looked.examples)} that were looked at, of {looked.of}."
    )
    first = share(NAME, SAME_SLICE, same, len(top), sample=sample.name, reading=reading)
    yield replace(first, attachment=_examples(case, sample, ranking, looked.examples))
    wrong = sum(_is_refuted(case, row) for row in top)
    rest = sum(_is_refuted(case, row) for row in looked.examples)
    reading = (
        f"The verifier refutes the labels of {wrong} of these {len(top)}, "
        f"of {rest} of the {len(looked.examples)} that were looked at."
    )
    yield share(NAME, WRONG_LABEL, wrong, len(top), sample=sample.name, reading=reading)


_MEASURED = (SAME_SLICE, WRONG_LABEL)


def _is_refuted(case: Case, row: Example) -> bool:
    return not case.task.verify(row.prompt, row.completion)


def _examples(case: Case, sample: Sample, ranking: Ranking, examples: Sequence[Example]) -> Attachment:
    """The strongest on both sides, with influence and likeness."""
    sides = (("proponent", ranking.proponents), ("opponent", ranking.opponents))
    rows = [_cells(case, side, row, examples[row.at]) for side, group in sides for row in group[: TOP // 2]]
    columns = ["side", "influence", "BM25", "in slice", "label", "prompt", "completion"]
    return Attachment(f"training examples, sample {sample.name}", "examples", {"columns": columns, "rows": rows})


def _cells(case: Case, side: str, row: Ranked, example: Example) -> list[object]:
    is_inside = matches(example.axes, case.conditions)
    label = "refuted" if _is_refuted(case, example) else "right"
    return [side, row.influence, row.likeness, "yes" if is_inside else "no", label, example.prompt, example.completion]


def _missing(case: Case, why: str) -> tuple[Evidence, ...]:
    return tuple(missing(NAME, row, reading=why, sample=one.name) for one in case.samples for row in _MEASURED)
