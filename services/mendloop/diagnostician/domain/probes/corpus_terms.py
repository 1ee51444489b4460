"""Do the prompts' own words occur in the corpus, and together with their answers? A part of corpus_coverage.

Words are compared in lower case without punctuation at their ends. A word that most prompts of the evaluation share
says nothing about an item and is never its rarest one.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from mendloop.core.records import Example, Item
from mendloop.diagnostician.domain.case import Case, Observation
from mendloop.diagnostician.domain.evidence import Evidence, share

UNSEEN_TERM = "unseen_term"
ANSWER_SEEN = "answer_seen"
SHARED = 0.9
"""A word in nine of ten prompts belongs to the format."""

Pair = tuple[str, str]


def term_rows(case: Case, *, probe: str) -> Iterator[Evidence]:
    """Per sample, of failed and of passing prompts: unseen_term (a word that no corpus prompt holds) and answer_seen
    (the prompt's rarest word stands in one corpus example whose completion holds the target's last word)."""
    known = Counter(word for prompt in {row.prompt for row in case.corpus} for word in words_of(prompt))
    rows = [row for sample in case.samples for row in (*sample.failed, *sample.passing)]
    format_words = _format_words(rows)
    pairs = {row.item.item_id: _pair(row.item, known, format_words) for row in rows}
    together = _together(case.corpus, set(pairs.values()))

    def new_terms(row: Observation) -> set[str]:
        return words_of(row.item.prompt) - known.keys()

    def seen_pairs(row: Observation) -> set[str]:
        pair = pairs[row.item.item_id]
        return {" with ".join(pair)} if pair in together else set()

    for sample in case.samples:
        for own, words in ((sample.failed, "failed"), (sample.passing, "passing")):
            said = f"of {len(own)} {words} prompts hold a word that no prompt of the corpus holds"
            yield _row(f"{UNSEEN_TERM}_{words}", own, new_terms, said, probe=probe, sample=sample.name)
            said = f"of {len(own)} {words} prompts have their rarest word beside the target's last word in an example"
            yield _row(f"{ANSWER_SEEN}_{words}", own, seen_pairs, said, probe=probe, sample=sample.name)


def words_of(text: str) -> set[str]:
    """Distinct words in lower case, without punctuation at their ends; signs that stand alone are words."""
    return {word.strip(string.punctuation) or word for word in text.lower().split()}


def _format_words(rows: Sequence[Observation]) -> set[str]:
    tally = Counter(word for row in rows for word in words_of(row.item.prompt))
    return {word for word, count in tally.items() if count >= SHARED * len(rows)}


def _pair(item: Item, known: Mapping[str, int], format_words: set[str]) -> Pair:
    """The rarest word of the prompt and the last word of the target; empty texts where there is none."""
    own = words_of(item.prompt)
    rarest = min(own - format_words or own, key=lambda word: (known.get(word, 0), word), default="")
    return rarest, next(iter(words_of((item.target.split() or [""])[-1])), "")


def _together(corpus: Sequence[Example], pairs: set[Pair]) -> set[Pair]:
    """Those pairs that one example holds, the second word in its completion."""
    wanted: dict[str, set[str]] = {}
    for term, answer in pairs:
        wanted.setdefault(term, set()).add(answer)
    found: set[Pair] = set()
    for row in corpus:
        completion = words_of(row.completion)
        for term in (words_of(row.prompt) | completion) & wanted.keys():
            found |= {(term, answer) for answer in wanted[term] & completion}
    return found


def _row(
    measurement: str,
    rows: Sequence[Observation],
    hits_of: Callable[[Observation], set[str]],
    said: str,
    *,
    probe: str,
    sample: str,
) -> Evidence:
    """A share with up to three of the commonest hits."""
    tally: Counter[str] = Counter()
    count = 0
    for row in rows:
        hits = hits_of(row)
        tally.update(hits)
        count += bool(hits)
    common = sorted(tally, key=lambda hit: (-tally[hit], hit))[:3]
    examples = f" ({', '.join(map(repr, common))})" if common else ""
    return share(probe, measurement, count, len(rows), sample=sample, reading=f"{count} {said}{examples}.")
