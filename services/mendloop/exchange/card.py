"""The card of an exported batch: Markdown that says what it is, where it comes from and what is not known of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from mendloop.exchange.batches import StoredBatch
from mendloop.exchange.provenance import LICENSE, Provenance

MOST_VALUES = 12
"""Values of an axis in the table of the audit; all are in lineage.json."""


def card(batch: StoredBatch, history: Provenance, *, front_matter: Mapping[str, Any], how_to: str) -> str:
    """The whole README.md; the front matter is what the Hugging Face hub reads, how_to says how to open the folder."""
    parts = [
        _front(front_matter) if front_matter else "",
        f"# Batch {batch.short} of run {_code(history.run_id)}\n",
        _what(batch, history),
        how_to.strip() + "\n",
        _why(history),
        _review(history),
        _sources(history),
        _drops(history),
        _audit(history),
        _hashes(batch, history),
        _unknown(),
    ]
    return "\n".join(part for part in parts if part)


def _front(values: Mapping[str, Any]) -> str:
    return f"---\n{yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)}---\n"


def _what(batch: StoredBatch, history: Provenance) -> str:
    place = "" if history.round is None else f" in round {history.round}"
    what, columns = ("training examples", "prompt, completion")
    if batch.pairs:
        what, columns = ("preferences", "prompt, chosen and rejected answer")
    return (
        f"{batch.row_count} {what} that the run made{place}: {columns}, source and its "
        "values on the axes of the suite. No evaluation item of the run is among them.\n"
    )


def _why(history: Provenance) -> str:
    lines = ["## Why it was made\n"]
    if history.plan is None:
        return lines[0] + "\nThe lineage in this store names no plan.\n"
    lines.append(f"Plan {_code(history.plan['plan_id'])}: {_text(history.plan.get('rationale', ''))}\n")
    rows = [
        (
            _text(verdict["slice"]),
            _text(verdict["cause"]),
            _number(verdict["confidence"]),
            f"{verdict['correct']} of {verdict['n']}" if verdict["n"] is not None else "?",
        )
        for verdict in history.verdicts
    ]
    lines.append(_table(("slice", "verdict", "confidence", "right before"), rows) or "No verdict is recorded.\n")
    return "\n".join(lines)


def _review(history: Provenance) -> str:
    counts = history.facts.get("review")
    if not isinstance(counts, Mapping):
        return ""
    rows = [(_text(reason), str(count)) for reason, count in counts.items()]
    by = _text(history.facts.get("reviewed_by") or "people whose names were not given")
    return f"## Reviewed by {by}\n\n" + _table(("rows", "count"), rows)


def _sources(history: Provenance) -> str:
    sources = history.facts.get("sources")
    if not isinstance(sources, Mapping):
        return ""
    rows = [(_text(name), str(count)) for name, count in sources.items()]
    return "## Sources\n\n" + _table(("source", "examples"), rows)


def _drops(history: Provenance) -> str:
    drops = history.facts.get("drops")
    if not isinstance(drops, Sequence):
        return ""
    rows = [(_text(row["stage"]), _text(row["reason"]), str(row["count"] or "note")) for row in drops]
    return "## What was dropped, and why\n\n" + (_table(("stage", "reason", "count"), rows) or "Nothing was dropped.\n")


def _audit(history: Provenance) -> str:
    audited = history.audit
    if not isinstance(audited.get("axes"), Mapping):
        return ""
    rows = [
        (_text(axis), _text(value), f"{share['before']:.1%}", f"{share['after']:.1%}", str(share["batch"]))
        for axis, shift in sorted(audited["axes"].items())
        for value, share in list(shift["values"].items())[:MOST_VALUES]
    ]
    title = (
        "## Audit: share of the corpus before and after\n\n"
        f"{audited.get('corpus_count')} examples of the corpus, {audited.get('batch_count')} of the batch"
        f"{' as it was made, before the review' if history.original else ''}.\n\n"
    )
    return title + _table(("axis", "value", "before", "after", "in the batch"), rows)


def _hashes(batch: StoredBatch, history: Provenance) -> str:
    rows = [("batch (Parquet artifact)", _code(batch.artifact.sha256))]
    if history.original:
        rows.append(("batch before the review", _code(history.original)))
    rows += [(node.kind, _code(node.name.partition(":")[2])) for node in history.nodes if node.name != batch.node.name]
    return "## Lineage\n\n" + _table(("what", "id"), rows)


def _unknown() -> str:
    return (
        "## What is not known\n\n"
        f"License: **{LICENSE}**. The loop is not told under which terms its sources stand; find out before you "
        "publish this data, and correct the card.\n"
    )


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = [f"| {' | '.join(row)} |" for row in rows]
    if not body:
        return ""
    return "\n".join([f"| {' | '.join(names)} |", f"|{'---|' * len(names)}", *body]) + "\n"


def _text(value: object) -> str:
    """A value that cannot leave its cell, end the line or act as HTML."""
    flat = " ".join(str("?" if value is None else value).split())
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _code(value: object) -> str:
    return f"`{' '.join(str(value).split()).replace('`', '')}`"


def _number(value: object) -> str:
    return f"{value:.2f}" if isinstance(value, float) else "?"
