"""Takes evaluation items out of a corpus, by fingerprint of the prompt and by runs of words. Knows hashes only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mendloop.passes import marks
from mendloop.passes.cleaning import HOLDS_ITEM, IS_ITEM, Pass, edges_of
from mendloop.passes.corpus import ROW
from mendloop.passes.engine import Chain
from mendloop.passes.marks import EvaluationMarks


def decontamination(known: EvaluationMarks) -> Pass:
    """Rows that are an evaluation item, or that hold one's words where the marks have n-grams."""
    return Pass("decontamination", Chain(_Contaminated(known)), "")


@dataclass(frozen=True, slots=True, eq=False)
class _Contaminated:
    marks: EvaluationMarks

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        reasons = np.array(
            self.marks.reasons(batch.column("prompt").to_pylist(), batch.column("completion").to_pylist()), np.object_
        )
        found = reasons != ""
        of = np.where(reasons == marks.IS_ITEM, IS_ITEM, HOLDS_ITEM).astype(np.int64)
        return edges_of(batch.column(ROW).to_numpy()[found], of[found])
