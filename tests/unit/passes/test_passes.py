from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from corpora import (
    WORDS,
    InlineEngine,
    are_alike,
    as_example,
    corpus_of,
    everything_by,
    mixed_rows,
    sentence,
    texts_of,
)

from mendloop.core.errors import CorruptArtifact
from mendloop.core.records import fingerprint
from mendloop.data_generator.adapters.near_duplicates import MinHashIndex
from mendloop.passes.cleaning import Cleaned, Pass, run_pass
from mendloop.passes.clusters import CLUSTER, assign_clusters, fit_clusters
from mendloop.passes.corpus import PART_SPAN, ROW, Corpus, write_corpus
from mendloop.passes.decontamination import decontamination
from mendloop.passes.duplicates import COMPARED, exact_duplicates, near_duplicates
from mendloop.passes.marks import EvaluationMarks, marks_document
from mendloop.passes.pool import PoolEngine

ROWS = mixed_rows(400)


ENGINE = InlineEngine()


def run(corpus: Corpus, wanted: Pass) -> Cleaned:
    return run_pass(corpus, wanted, engine=ENGINE, into=corpus.folder.parent / wanted.name)


def marks_of(*prompts: str, words: int = 0, share: float = 0.7) -> EvaluationMarks:
    import json

    document = marks_document(prompts, ngram_words=words, ngram_share=share)
    return EvaluationMarks.of_bytes(json.dumps(document).encode(), name="marks")


def test_a_corpus_is_cut_into_parts_whatever_the_batches(tmp_path: Path) -> None:
    corpus = corpus_of(ROWS[:120], tmp_path / "corpus", part_rows=50)

    batches = list(corpus.batches())

    assert [batch.num_rows for batch in batches] == [50, 50, 20]
    assert [batch.column(ROW)[0].as_py() // PART_SPAN for batch in batches] == [0, 1, 2]
    assert texts_of(corpus) == ROWS[:120]
    assert corpus.count() == 120


def test_impossible_part_sizes_and_broken_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="part_rows is 0"):
        write_corpus([], tmp_path, part_rows=0)
    (tmp_path / "part-000000.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(CorruptArtifact, match="part-000000"):
        list(Corpus(tmp_path).batches())


def test_of_rows_with_one_prompt_the_first_stays(tmp_path: Path) -> None:
    corpus = corpus_of(ROWS, tmp_path / "corpus")

    cleaned = run(corpus, exact_duplicates(corpus))

    first = {fingerprint(prompt): (prompt, answer) for prompt, answer in reversed(ROWS)}
    assert sorted(texts_of(cleaned.corpus)) == sorted(first.values())
    assert cleaned.dropped == {"its prompt is that of an earlier row": len(ROWS) - len(first)}
    assert (cleaned.row_count, cleaned.kept_count) == (len(ROWS), len(first))


def test_each_near_duplicate_that_goes_is_like_one_that_stays_and_few_are_missed(tmp_path: Path) -> None:
    corpus = corpus_of(ROWS, tmp_path / "corpus")

    kept = texts_of(run(corpus, near_duplicates(corpus)).corpus)

    gone = (Counter(ROWS) - Counter(kept)).elements()
    assert all(any(are_alike(row, other) for other in kept) for row in gone)
    missed = [row for at, row in enumerate(kept) if any(are_alike(row, other) for other in kept[:at])]
    assert len(kept) < len(ROWS) - 60
    assert len(missed) <= 0.1 * (len(ROWS) - len(kept))  # at .83, the similarity of most, bands miss 6 %


def test_the_passes_and_the_funnels_index_find_the_same_clear_near_duplicates(tmp_path: Path) -> None:
    rng = random.Random(2)
    long = [(sentence(rng, words=80), "yes") for _ in range(20)]
    rows = [*long, *((f"{prompt} {rng.choice(WORDS)}", answer) for prompt, answer in long)]
    rows += [(f"{prompt} today", "no") for prompt, _ in long]
    corpus = corpus_of(rows, tmp_path / "corpus", part_rows=7)

    kept = texts_of(run(corpus, near_duplicates(corpus)).corpus)

    index, one_by_one = MinHashIndex(), []
    for row in rows:
        if not index.holds_like(as_example(row)):
            index.add([as_example(row)])
            one_by_one.append(row)
    assert kept == one_by_one == [*long, *rows[40:]]


def test_a_chain_of_near_duplicates_loses_only_those_whose_like_stays(tmp_path: Path) -> None:
    words = sentence(random.Random(5), words=100).split()
    rows = [(" ".join([*words[at:], *(f"new{n}" for n in range(at))]), "yes") for at in (0, 4, 8, 12)]
    corpus = corpus_of(rows, tmp_path / "corpus", part_rows=1)

    cleaned = run(corpus, near_duplicates(corpus))

    assert [are_alike(rows[0], row) for row in rows[1:]] == [True, False, False]
    assert texts_of(cleaned.corpus) == [rows[0], rows[2]]


def test_rows_of_a_crowd_are_compared_with_its_first_and_counted(tmp_path: Path) -> None:
    rows = [("the very same long question about the very same thing", "yes")] * (COMPARED + 5)
    corpus = corpus_of(rows, tmp_path / "corpus", part_rows=7)

    cleaned = run(corpus, near_duplicates(corpus))

    assert cleaned.kept_count == 1
    assert cleaned.not_compared == 4


def test_rows_keep_their_numbers_so_that_passes_follow_one_another(tmp_path: Path) -> None:
    corpus = corpus_of(ROWS, tmp_path / "corpus")

    exact = run(corpus, exact_duplicates(corpus))
    near = run(exact.corpus, near_duplicates(exact.corpus))

    numbers = [row for batch in near.corpus.batches() for row in batch.column(ROW).to_pylist()]
    original = dict(
        zip((row for batch in corpus.batches() for row in batch.column(ROW).to_pylist()), ROWS, strict=True)
    )
    assert [original[number] for number in numbers] == texts_of(near.corpus)


def test_a_part_that_loses_every_row_goes(tmp_path: Path) -> None:
    corpus = corpus_of([("a question", "a")] * 8, tmp_path / "corpus", part_rows=4)

    cleaned = run(corpus, exact_duplicates(corpus))

    assert [path.name for path in cleaned.corpus.parts()] == ["part-000000.parquet"]
    assert cleaned.kept_count == 1


def test_an_empty_corpus_stays_empty(tmp_path: Path) -> None:
    corpus = write_corpus([], tmp_path / "corpus")

    cleaned = run(corpus, near_duplicates(corpus))

    assert (cleaned.row_count, cleaned.kept_count, dict(cleaned.dropped)) == (0, 0, {})


def test_evaluation_items_go_by_fingerprint_and_by_most_of_their_words(tmp_path: Path) -> None:
    rng = random.Random(3)
    item, other = sentence(rng, words=20), sentence(rng, words=20)
    words = item.split()
    rows = [
        (item.upper(), "1"),
        (f"Read this: {item} And now answer.", "2"),
        (sentence(rng), f"as it was asked {item}"),
        (f"{' '.join(words[:12])} {sentence(rng)}", "3"),
        (sentence(rng), "4"),
    ]
    corpus = corpus_of(rows, tmp_path / "corpus", part_rows=2)

    cleaned = run(corpus, decontamination(marks_of(item, other, words=8)))

    assert texts_of(cleaned.corpus) == rows[3:]
    assert cleaned.dropped == {
        "it holds the words of an evaluation item": 2,
        "its prompt is an evaluation item": 1,
    }


def test_a_lower_share_drops_what_holds_less_of_an_item() -> None:
    item = sentence(random.Random(3), words=20)
    part = " ".join(item.split()[:12])

    for share, is_held in ((0.7, False), (0.3, True)):
        ngrams = marks_of(item, words=8, share=share).ngrams
        assert ngrams is not None
        assert ngrams.are_held([part]).tolist() == [is_held]


def test_runs_of_two_items_do_not_add_up_to_one() -> None:
    rng = random.Random(4)
    first, second = sentence(rng, words=15).split(), sentence(rng, words=15).split()
    ngrams = marks_of(" ".join(first), " ".join(second), words=8).ngrams
    assert ngrams is not None

    assert not ngrams.are_held([" ".join([*first[:11], *second[:11]])])[0]
    assert ngrams.are_held([" ".join([*first[:14], *second[:11]])])[0]


def test_marks_hold_no_text_and_count_items_too_short_for_a_run() -> None:
    document = marks_document(["what is the password of the small harbour gate", "short one"], ngram_words=8)

    assert "harbour" not in str(document)
    assert document["ngrams"]["short_count"] == 1  # type: ignore[index]
    assert len(document["fingerprints"]) == 2  # type: ignore[arg-type]


def test_marks_without_ngrams_are_the_document_of_before() -> None:
    assert marks_document(["Walk  left", "run"]) == {
        "algorithm": "sha256",
        "fingerprints": sorted([fingerprint("walk left"), fingerprint("run")]),
    }


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'{"algorithm": "md5", "fingerprints": []}', "no sha256"),
        (b'{"algorithm": "sha256", "fingerprints": [], "ngrams": {"hash": "runs-9"}}', "runs-9"),
    ],
)
def test_marks_of_another_kind_are_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(CorruptArtifact, match=complaint):
        EvaluationMarks.of_bytes(data, name="marks")


def test_clusters_of_the_corpus_part_what_has_no_words_in_common(tmp_path: Path) -> None:
    rng = random.Random(7)
    farm = [" ".join(rng.choice(["cow", "barn", "hay", "tractor", "field"]) for _ in range(8)) for _ in range(60)]
    sea = [" ".join(rng.choice(["ship", "wave", "anchor", "harbour", "tide"]) for _ in range(8)) for _ in range(30)]
    rows = [(text, "farm") for text in farm] + [(text, "sea") for text in sea]
    rng.shuffle(rows)
    corpus = corpus_of(rows, tmp_path / "corpus", part_rows=20)

    clustering = fit_clusters(corpus, engine=ENGINE, seed=1, most=2)
    counts = assign_clusters(corpus, clustering, engine=ENGINE, into=tmp_path / "clustered")

    assert counts == {0: 60, 1: 30}
    found = {
        (answer, at)
        for batch in Corpus(tmp_path / "clustered").batches()
        for answer, at in zip(batch.column("completion").to_pylist(), batch.column(CLUSTER).to_pylist(), strict=True)
    }
    assert found == {("farm", 0), ("sea", 1)}


def test_a_pool_of_processes_gives_what_one_process_gives(tmp_path: Path) -> None:
    with PoolEngine(workers=2, spill=tmp_path) as pool:
        in_pool = everything_by(pool, tmp_path / "pool", rows=ROWS)

    assert in_pool == everything_by(ENGINE, tmp_path / "here", rows=ROWS)
    assert not list(tmp_path.glob("mendloop-*")), "what was regrouped is cleared away"


def test_a_pool_needs_a_worker() -> None:
    with pytest.raises(ValueError, match="workers is 0"):
        PoolEngine(workers=0)
