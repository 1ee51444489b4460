"""Attribution of failures to the examples of a corpus: retrieval first where it is wanted, then influence.

Knows an index, a source of gradients and a retriever by their ports; knows no task and no slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mendloop.attribution.domain.influence import DAMPING, Curvature, Rows
from mendloop.attribution.domain.ranking import Ranking, likeliest, ranked
from mendloop.attribution.index import GradientIndex, text_id
from mendloop.attribution.ports import GradientSource, Retriever, Text
from mendloop.core.errors import Permanent

FIT_ROWS = 1024
"""Rows that the curvature is fitted on."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A prompt with its target. With wrong_output the contrast is asked: why that output and not the target?"""

    prompt: str
    target: str
    wrong_output: str = ""


class Attribution:
    """Asks one index about failures under the model of its source."""

    def __init__(
        self,
        index: GradientIndex,
        source: GradientSource,
        texts: Sequence[Text],
        *,
        retriever: Retriever | None = None,
        damping: float | None = DAMPING,
        is_cosine: bool = False,
    ) -> None:
        """texts: the corpus, all of it in the index. damping None: plain inner products. is_cosine: norms are left
        out, so that an example counts by its direction alone.

        Raises Permanent where the index belongs to another checkpoint or settings, or lacks a text.
        """
        if index.identity != source.identity:
            raise Permanent(f"the index in {index.folder} is of another checkpoint or other settings: build it again")
        self._ids = [text_id(text) for text in texts]
        lacking = sum(key not in index.places for key in self._ids)
        if lacking or not texts:
            raise Permanent(f"the index in {index.folder} lacks {lacking} of {len(texts)} texts: build it with them")
        self._index, self._source, self._is_cosine = index, source, is_cosine
        self._curvature = None if damping is None else Curvature(index.blocks, self._sample(), damping=damping)
        self._retriever = retriever
        if retriever is not None:
            retriever.fit([text.whole for text in texts])

    def _sample(self) -> Rows:
        """The rows of the smallest hashes: at random, whatever the order in which a corpus grew."""
        return self._index.rows(sorted(set(self._ids))[:FIT_ROWS])

    def scores(self, failures: Sequence[Failure], candidates: Sequence[int] | None = None) -> NDArray[np.float32]:
        """Influence of each candidate (a place in the corpus; None: all of them) on each failure, [Q, N].

        Above 0: training on it lowers the loss of the target (against that of the wrong output, where one is given).
        """
        ids = self._ids if candidates is None else [self._ids[at] for at in candidates]
        queries_QD = self._queries(failures)
        solved_QD = queries_QD if self._curvature is None else self._curvature.solve(queries_QD)
        if self._is_cosine:
            solved_QD = _unit(solved_QD)
        scores_QN = np.empty((len(failures), len(ids)), np.float32)
        for at, unit_ND, norms_N in self._index.parts(ids):
            scores_QN[:, at] = (solved_QD @ unit_ND.T) * (1 if self._is_cosine else norms_N)
        return scores_QN

    def rank(self, failures: Sequence[Failure], *, top: int = 10, candidate_count: int | None = None) -> Ranking:
        """Proponents and opponents by mean influence over the failures.

        candidate_count: only so many of the most alike examples of each failure are looked at; needs a retriever.
        """
        if not failures:
            raise ValueError("there is no failure to attribute")
        likeness_QN = self.likeness(failures)
        candidates = list(range(len(self._ids)))
        if candidate_count is not None:
            if likeness_QN is None:
                raise ValueError(f"candidate_count is {candidate_count}, but there is no retriever to choose them")
            candidates = likeliest(likeness_QN, count=candidate_count)
        influence_N = self.scores(failures, candidates).mean(axis=0)
        return ranked(influence_N, None if likeness_QN is None else likeness_QN.mean(axis=0), candidates, top=top)

    def likeness(self, failures: Sequence[Failure]) -> NDArray[np.float32] | None:
        """The retriever's score of each example for each failure, [Q, N]; None without a retriever."""
        if self._retriever is None:
            return None
        return self._retriever.scores([Text(row.prompt, row.target).whole for row in failures])

    def _queries(self, failures: Sequence[Failure]) -> Rows:
        """Gradients of the targets' losses, less those of the wrong outputs: one step down raises the target alone."""
        rows_QD = self._source.rows([Text(row.prompt, row.target) for row in failures])
        contrasted = [at for at, row in enumerate(failures) if row.wrong_output]
        if contrasted:
            wrong = [Text(failures[at].prompt, failures[at].wrong_output) for at in contrasted]
            rows_QD[contrasted] -= self._source.rows(wrong)
        return rows_QD


def _unit(rows: Rows) -> Rows:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(norms > 0, norms, 1)).astype(np.float32)
