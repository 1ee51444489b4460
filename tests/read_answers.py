"""Answers of the gateway's read model over the page's world: for gateways that do not have those endpoints.

What an endpoint gives out is computed from the same rows that page_world stores, so the page shows the same either way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import page_evidence
import page_story
from run_events import JUMP

from mendloop.core.records import Outcome
from mendloop.core.wire import slice_message

Answer = dict[str, Any]


def answer(url: str) -> Answer | None:
    """The answer to a GET, or None where the read model has none."""
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if parts.path == "/v1/dead-letters":
        return dead_letters()
    found = re.fullmatch(r"/v1/runs/([^/]+)/(outcomes|batches/\d+|diagnoses/\d+/[^/]+)", parts.path)
    if not found or found[1] not in (page_story.PROMOTED, page_story.WAITING, page_story.WORKING):
        return None
    if found[2] == "outcomes":
        return outcomes(query)
    return batch() if found[2].startswith("batches") else diagnosis()


def outcomes(query: Mapping[str, str]) -> Answer:
    """GET /v1/runs/{id}/outcomes."""
    round = int(query.get("round") or 0)
    rows = page_story.outcomes(round + 1, page_story.ROUND_RATES[round])
    before = {row.item_id: row for row in page_story.outcomes(1, page_story.ROUND_RATES[0])} if round else {}
    wanted = [row for row in rows if _fits(row, before.get(row.item_id), query)]
    start, limit = int(query.get("cursor") or 0), int(query.get("limit", 50))
    end = start + limit
    return {
        "outcomes": [_outcome(row, before.get(row.item_id)) for row in wanted[start:end]],
        "next_cursor": str(end) if end < len(wanted) else "",
        "total": len(wanted),
        "compared_with": {"round": 0} if round else None,
    }


def _fits(row: Outcome, before: Outcome | None, query: Mapping[str, str]) -> bool:
    status = query.get("status", "all")
    was_right = before is not None and before.is_correct
    kinds = {
        "all": True,
        "right": row.is_correct,
        "wrong": not row.is_correct,
        "fixed": before is not None and row.is_correct and not was_right,
        "broke": was_right and not row.is_correct,
    }
    inside = query.get("slice", "") in ("", *(slice_message([(axis, row.axes[axis][0])]).slice_id for axis in row.axes))
    return kinds[status] and inside and query.get("q", "").lower() in f"{row.prompt} {row.output}".lower()


def _outcome(row: Outcome, before: Outcome | None) -> Answer:
    return {
        "item_id": row.item_id,
        "prompt": row.prompt,
        "target": row.target,
        "output": row.output,
        "score": row.score,
        "is_right": row.is_correct,
        "stop_reason": row.stop_reason,
        "failure": ""
        if row.is_correct
        else "another answer than the target"
        if row.stop_reason == "eos"
        else "the token limit cut it off",
        "axes": dict(row.axes),
        "before": {"output": before.output, "score": before.score} if before else None,
    }


def batch() -> Answer:
    """GET /v1/runs/{id}/batches/{round}."""
    example = {"completion": "I_TURN_RIGHT I_JUMP", "source": "pool", "slice_id": JUMP.slice_id}
    return {
        "batch": {"example_count": 64},
        "funnel": [{"stage": "decontamination", "reason": "is an evaluation item", "count": 2}],
        "shifts": [{"axis": "turn", "value": "around right", "before": 0.0005, "after": 0.5}],
        "examples": [{"prompt": f"jump {turn} twice", **example} for turn in page_story.TURNS],
        "next_cursor": "",
        "total": len(page_story.TURNS),
    }


def diagnosis() -> Answer:
    """GET /v1/runs/{id}/diagnoses/{round}/{slice_id}."""
    return {
        "verdict": {"cause": "DATA_MISSING", "family": "data", "confidence": 0.94},
        "causes": {"DATA_MISSING": 0.94, "DATA_SKEW": 0.31},
        "evidence": [
            {
                "probe": "forced_stop",
                "measure": "rescued_share[a]",
                "value": 0.02,
                "low": 0.0005,
                "high": 0.11,
                "n": 49,
                "meaning": "Stopping the output at the target's length makes 1 of 49 right.",
            }
        ],
        "interventions": [{"kind": "data", "fixes": [], "rationale": "Add verified examples."}],
        "attachments": [
            {"kind": "heat_map", "name": "heat_map", "probe": "patching", "document": page_evidence.heat_map()},
            {
                "kind": "examples",
                "name": "training examples, sample a",
                "probe": "attribution",
                "document": page_evidence.attributed(),
            },
        ],
    }


def dead_letters() -> Answer:
    """GET /v1/dead-letters."""
    letter = {
        "id": f"dead-{page_story.FAILED}/1",
        "run_id": page_story.FAILED,
        "event_type": "mendloop.v1.CheckpointReady",
        "service": "evaluator",
        "reason": "Permanent: the checkpoint has no tokenizer",
        "at": "2026-11-29T13:00:00Z",
        "attempts": 1,
        "replayed_at": None,
    }
    return {"dead_letters": [letter], "next_cursor": "", "total": 1}
