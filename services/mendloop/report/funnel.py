"""The funnel of a batch as rows that a page draws: what was looked at, what each stage dropped and why, what is left.

Knows the figures of a summary; knows no page.
"""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]


def funnel_of(batch: Document) -> Document:
    """Stages in the order in which candidates meet them; `left` goes on, `left_share` is of all that was looked at.

    A line without a count is a note: why there are fewer candidates than asked for.
    """
    counted = [drop for drop in batch["drops"] if drop["count"]]
    looked_at = left = batch["example_count"] + sum(drop["count"] for drop in counted)
    stages = []
    for name in dict.fromkeys(drop["stage"] for drop in counted):
        reasons = [drop for drop in counted if drop["stage"] == name]
        dropped = sum(drop["count"] for drop in reasons)
        left -= dropped
        stages.append(
            {
                "stage": name,
                "dropped": dropped,
                "left": left,
                "left_share": left / looked_at,
                "dropped_share": dropped / looked_at,
                "reasons": [{"reason": drop["reason"], "count": drop["count"]} for drop in reasons],
            }
        )
    notes = [f"{drop['stage']}: {drop['reason']}" for drop in batch["drops"] if not drop["count"]]
    return {"looked_at": looked_at, "kept": batch["example_count"], "stages": stages, "notes": notes}
