"""Small corpora on disk with known duplicates, for tests of the passes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from mendloop.core.records import Example
from mendloop.passes.cleaning import Pass, run_pass
from mendloop.passes.clusters import assign_clusters, fit_clusters
from mendloop.passes.corpus import Corpus, one_batch, read_part, write_corpus
from mendloop.passes.decontamination import decontamination
from mendloop.passes.duplicates import exact_duplicates, near_duplicates
from mendloop.passes.engine import Chain, Engine
from mendloop.passes.marks import EvaluationMarks, marks_document
from mendloop.passes.pool import groups_of
from mendloop.passes.texts import THRESHOLD, similarity

WORDS = [
    f"{start}{end}" for start in ("ba", "ko", "lu", "mi", "ta", "ze") for end in ("n", "r", "s", "x", "dol", "fim")
]


def corpus_of(rows: Iterable[tuple[str, str]], folder: Path, *, part_rows: int = 50) -> Corpus:
    """A corpus of (prompt, completion) in small parts."""
    held = list(rows)
    batch = pa.RecordBatch.from_pydict(
        {"prompt": [prompt for prompt, _ in held], "completion": [completion for _, completion in held]}
    )
    return write_corpus([batch], folder, part_rows=part_rows)


def sentence(rng: random.Random, *, words: int = 30) -> str:
    """Words without meaning."""
    return " ".join(rng.choice(WORDS) for _ in range(words))


def mixed_rows(count: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """New rows, copies, near-copies with the same answer and with another one, in any order."""
    rng = random.Random(seed)
    rows: list[tuple[str, str]] = []
    while len(rows) < count:
        kind = rng.random()
        if kind < 0.6 or not rows:
            rows.append((sentence(rng), str(rng.randrange(5))))
            continue
        prompt, answer = rng.choice(rows)
        if kind < 0.7:
            rows.append((prompt.upper() if rng.random() < 0.5 else prompt, answer))
            continue
        changed = prompt.split()
        changed[rng.choice([0, -1])] = rng.choice(WORDS)
        rows.append((" ".join(changed), answer if kind < 0.9 else "another"))
    return rows


def texts_of(corpus: Corpus) -> list[tuple[str, str]]:
    """The rows of a corpus in order."""
    return [
        (prompt, completion)
        for batch in corpus.batches()
        for prompt, completion in zip(
            batch.column("prompt").to_pylist(), batch.column("completion").to_pylist(), strict=True
        )
    ]


def are_alike(row: tuple[str, str], other: tuple[str, str]) -> bool:
    """The definition, without any index."""
    return row[1] == other[1] and similarity(row[0], other[0]) >= THRESHOLD


def as_example(row: tuple[str, str]) -> Example:
    """A row as an example."""
    return Example(row[0], row[1], "corpus")


class InlineEngine:
    """Runs chains here and now."""

    def run(self, parts: Sequence[Path], chain: Chain) -> Iterator[pa.RecordBatch]:
        batches = [chain.each(read_part(path)) for path in parts]
        for step in chain.together:
            if batches:
                groups = groups_of(one_batch(pa.Table.from_batches(batches)), key=step.key)
                batches = [step.function(rows) for _, rows in groups]
        yield from batches


def passes_of(corpus: Corpus, *, items: Sequence[str]) -> list[Pass]:
    """One of each kind; the items are prompts of the evaluation."""
    document = marks_document(items, ngram_words=8)
    marks = EvaluationMarks.of(document, name="marks")
    return [exact_duplicates(corpus), near_duplicates(corpus), decontamination(marks)]


def everything_by(engine: Engine, folder: Path, *, rows: Sequence[tuple[str, str]]) -> list[tuple[object, ...]]:
    """Every pass over the rows, each with what it counted and left; then the clusters and their sizes."""
    corpus = corpus_of(rows, folder / "corpus", part_rows=100)
    found: list[tuple[object, ...]] = []
    for wanted in passes_of(corpus, items=[rows[3][0], rows[100][0]]):
        cleaned = run_pass(corpus, wanted, engine=engine, into=folder / wanted.name)
        assert cleaned.dropped, f"{wanted.name} had nothing to drop: the comparison would say nothing"
        found.append((wanted.name, dict(cleaned.dropped), cleaned.kept_count, texts_of(cleaned.corpus)))
    clustering = fit_clusters(corpus, engine=engine, seed=2, most=3)
    found.append((clustering, assign_clusters(corpus, clustering, engine=engine, into=folder / "clustered")))
    return found
