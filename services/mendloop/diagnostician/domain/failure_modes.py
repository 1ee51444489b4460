"""What single failures look like, which modes they form, and which part of the corpus lies nearest to each.

A failure becomes a bag of terms: how it ended, what would have made it right, where it leaves the target and for which
words. Modes are clusters of such bags, corpus clusters those of training examples; both are named, and assign others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from mendloop.axes.term_clusters import Clustering, cluster
from mendloop.core.events import stable_hash
from mendloop.core.records import Axes, Example
from mendloop.core.tasks import Task
from mendloop.diagnostician.domain.case import Observation
from mendloop.diagnostician.domain.cutting import is_right_when_cut

FORMAT = 1
NEAREST = 2
"""Corpus clusters that are named beside a mode."""
LONGER = 1.25


@dataclass(frozen=True, slots=True)
class FailureModes:
    """A fitted classifier of failures with the corpus clusters that it refers to."""

    modes: Clustering
    corpus: Clustering | None

    @property
    def version(self) -> str:
        """Hash of what it knows: the same failures and corpus give the same version."""
        return stable_hash("failure-modes", repr(self.document()))[:16]

    def document(self) -> dict[str, object]:
        """As JSON values."""
        corpus = self.corpus.document() if self.corpus else None
        return {"format": FORMAT, "modes": self.modes.document(), "corpus": corpus}

    @staticmethod
    def of(document: Mapping[str, object]) -> FailureModes:
        """Read a document. Raises KeyError, TypeError or ValueError where it is none of this format."""
        modes, corpus = document["modes"], document["corpus"]
        if document["format"] != FORMAT or not isinstance(modes, Mapping):
            raise ValueError(f"the format is {document['format']!r}; this version reads {FORMAT}")
        return FailureModes(Clustering.of(modes), Clustering.of(corpus) if isinstance(corpus, Mapping) else None)


@dataclass(frozen=True, slots=True)
class ModeRow:
    """One line of the table: a mode with its count, the corpus clusters nearest to its items, and its clearest case."""

    name: str
    count: int
    share: float
    nearest: tuple[tuple[str, float], ...]
    example: Observation


def fit_modes(failures: Sequence[Observation], corpus: Sequence[Example], *, task: Task, seed: int) -> FailureModes:
    """Modes of at least one failure; clusters of a sample of the corpus where there is one."""
    modes = cluster([terms_of(row, task=task) for row in failures], seed=seed)
    examples = [example_terms(row.prompt, row.axes) for row in corpus]
    return FailureModes(modes, cluster(examples, seed=seed) if examples else None)


def table_of(modes: FailureModes, failures: Sequence[Observation], *, task: Task) -> list[ModeRow]:
    """The failures by mode, commonest first; modes may have been fitted on other failures."""
    members: dict[int, list[tuple[float, Observation]]] = {}
    for row in failures:
        best = modes.modes.nearest(terms_of(row, task=task))[0]
        members.setdefault(best.at, []).append((best.similarity, row))
    rows = [_row(modes, index, own, total=len(failures)) for index, own in members.items()]
    return sorted(rows, key=lambda row: (-row.count, row.name))


def terms_of(row: Observation, *, task: Task) -> list[str]:
    """The terms of one failure."""
    return [*_ending(row, task), *_difference(row.outcome.output.split(), row.item.target.split())]


def example_terms(prompt: str, axes: Axes) -> list[str]:
    """The terms of a training example or an item: words, their pairs, and axis values."""
    words = prompt.lower().split()
    pairs = (" ".join(pair) for pair in pairwise(words))
    return [*words, *pairs, *(f"{axis}={value}" for axis, values in axes.items() for value in values)]


def _row(modes: FailureModes, index: int, own: list[tuple[float, Observation]], *, total: int) -> ModeRow:
    clearest = max(own, key=lambda pair: pair[0])[1]
    items = [row for _, row in own]
    return ModeRow(
        modes.modes.clusters[index].name, len(own), len(own) / total, _nearest(modes.corpus, items), clearest
    )


def _nearest(corpus: Clustering | None, rows: Iterable[Observation]) -> tuple[tuple[str, float], ...]:
    """Names of the corpus clusters nearest to the items' prompts, with the mean similarity."""
    if corpus is None:
        return ()
    sums = [0.0] * len(corpus.clusters)
    count = 0
    for row in rows:
        count += 1
        for near in corpus.nearest(example_terms(row.item.prompt, row.item.axes)):
            sums[near.at] += near.similarity
    ranked = sorted(range(len(sums)), key=lambda at: -sums[at])[:NEAREST]
    return tuple((corpus.clusters[at].name, sums[at] / count) for at in ranked)


def _ending(row: Observation, task: Task) -> Iterator[str]:
    """How the output ended and what of the evaluation would have made it right."""
    outcome = row.outcome
    if not outcome.output.strip():
        yield "empty output"
    if outcome.stop_reason == "length":
        yield "ran to the limit"
    if outcome.extraction == "none":
        yield "nothing extracted"
    if is_right_when_cut(task, row.item, outcome.output):
        yield "right until it should stop"
    elif task.rescore(row.item, outcome.output).value >= 1:
        yield "accepted by the second scorer"
    if outcome.wrong_operation:
        yield f"wrong step: {outcome.wrong_operation}"


def _difference(output: Sequence[str], target: Sequence[str]) -> Iterator[str]:
    """Where and how the words of the output leave those of the target."""
    if not output:
        return
    if len(output) > LONGER * len(target):
        yield "too long"
    if LONGER * len(output) < len(target):
        yield "too short"
    matcher = SequenceMatcher(a=target, b=output, autojunk=False)
    edits = [code for code in matcher.get_opcodes() if code[0] != "equal"]
    if not edits:
        return
    yield f"first wrong in the {('beginning', 'middle', 'end')[min(2, 3 * edits[0][1] // max(1, len(target)))]}"
    if matcher.ratio() < 0.2:
        yield "nothing in common"
        return
    for _, start, end, other_start, other_end in edits[:3]:
        left, right = (
            " ".join(target[start:end][:2]) or "nothing",
            " ".join(output[other_start:other_end][:2]) or "nothing",
        )
        yield f"{right} for {left}"
