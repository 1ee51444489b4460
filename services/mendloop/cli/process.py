"""What outcomes say of their steps, in words: how many have a first wrong one, and which operation it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from mendloop.core.records import Outcome
from mendloop.core.stats import clopper_pearson

MOST_OPERATIONS = 8


def steps_summary(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for the wrong outcomes and one for the right ones; of the latter a wrong step is luck or a false alarm."""
    lines = []
    for kind, rows in (
        ("wrong", [row for row in outcomes if not row.is_correct]),
        ("right", [row for row in outcomes if row.is_correct]),
    ):
        found = [row for row in rows if row.first_wrong_step is not None]
        if not rows:
            continue
        low, high = clopper_pearson(len(found), len(rows))
        named = Counter(row.wrong_operation or "unnamed" for row in found).most_common(MOST_OPERATIONS)
        lines.append(
            f"steps: {len(found)} of {len(rows)} {kind} outcomes have a first wrong step"
            f" ({len(found) / len(rows):.1%}, 95 % interval {low:.1%} to {high:.1%})"
            + (": " + ", ".join(f"{name} {count}" for name, count in named) if named else "")
        )
    return lines
