"""Diverse selection: the k candidates that together cover most of what the corpus lacks. Deterministic by seed.

Knows texts; knows neither where they come from nor what a model does with them.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence

from mendloop.core.records import Example

MAX_ORDER = 3
STRATA_PER_DOUBLING = 8
"""Strata of length a doubling of the number of words: up to 10 words each number is one, at 100 words nine are."""


def ngrams(text: str) -> tuple[str, ...]:
    """Distinct uni-, bi- and trigrams of a text's words, sorted; the text's two ends stand in the longer ones."""
    words = ["^", *text.split(), "$"]
    found = set(words[1:-1])
    for order in range(2, MAX_ORDER + 1):
        found.update(" ".join(words[at : at + order]) for at in range(len(words) - order + 1))
    return tuple(sorted(found))


class Selection:
    """Greedy maximisation of f(S) = sum over n-grams g of w(g) * sqrt(c_S(g)), in strata of length.

    c_S(g) is the number of chosen examples that contain g; w(g) = log((1 + N) / (1 + N_g)), N the number of corpus
    examples and N_g of those with g: what the corpus is full of is worth little, what it lacks is worth most.
    A feature-based submodular function (Kirchhoff & Bilmes 2014, "Submodularity for Data Selection in Machine
    Translation", EMNLP): the square root makes a repeated n-gram worth less each time. Every length gets its share of
    the candidates, as coverage alone chooses texts that are shorter or longer than the slice's. Greedy choice reaches
    half of the best value under such quotas (Fisher, Nemhauser & Wolsey 1978); evaluated lazily (Minoux 1978).
    """

    def __init__(self, corpus: Iterable[Example]) -> None:
        self._frequency: Counter[str] = Counter()
        self._corpus_count = 0
        for example in corpus:
            self._corpus_count += 1
            self._frequency.update(ngrams(example.prompt))
        self._covered: Counter[str] = Counter()

    def choose(self, candidates: Sequence[Example], *, count: int, seed: int) -> list[Example]:
        """At most count candidates, best first; they count as chosen for later calls. The seed breaks ties."""
        features = [ngrams(candidate.prompt) for candidate in candidates]
        weights = {gram: self._weight(gram) for gram in set().union(*features)}
        strata = [_stratum(candidate.prompt) for candidate in candidates]
        open_places = _quotas(Counter(strata), count=count)
        order = list(range(len(candidates)))
        random.Random(seed).shuffle(order)
        heap = [(-self._gain(features[row], weights), tie, row) for tie, row in enumerate(order)]
        heapq.heapify(heap)
        chosen: list[Example] = []
        while heap and len(chosen) < count:
            _, tie, row = heapq.heappop(heap)
            if not open_places[strata[row]]:
                continue
            gain = self._gain(features[row], weights)
            if heap and -gain > heap[0][0]:
                heapq.heappush(heap, (-gain, tie, row))  # its gain shrank since it was put in: it waits again
                continue
            chosen.append(candidates[row])
            open_places[strata[row]] -= 1
            self._covered.update(features[row])
        return chosen

    def value(self) -> float:
        """f of everything chosen so far."""
        return math.fsum(self._weight(gram) * math.sqrt(count) for gram, count in self._covered.items())

    def _gain(self, grams: tuple[str, ...], weights: dict[str, float]) -> float:
        gain = 0.0
        for gram in grams:
            count = self._covered[gram]
            gain += weights[gram] * (math.sqrt(count + 1) - math.sqrt(count))
        return gain

    def _weight(self, gram: str) -> float:
        return math.log((1 + self._corpus_count) / (1 + self._frequency[gram]))


def _stratum(text: str) -> int:
    return int(STRATA_PER_DOUBLING * math.log2(1 + len(text.split())))


def _quotas(sizes: Counter[int], *, count: int) -> dict[int, int]:
    """Places of each stratum in proportion to its size: largest remainders, the longer stratum first where equal."""
    total = sizes.total()
    wanted = min(count, total)
    quotas = {stratum: wanted * size // total for stratum, size in sizes.items()}
    remainders = sorted(sizes, key=lambda stratum: (-(wanted * sizes[stratum] % total), -stratum))
    for stratum in remainders[: wanted - sum(quotas.values())]:
        quotas[stratum] += 1
    return quotas
