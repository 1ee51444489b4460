"""A run's verdict as JSON values, with everything that it rests on. Knows run views and the store; draws nothing."""

from __future__ import annotations

import json
from typing import Any

from mendloop.artifacts.store import ArtifactStore
from mendloop.runs.parts import Diagnosis, EvidenceRow

Document = dict[str, Any]


def verdict_document(diagnosis: Diagnosis, *, number: int, store: ArtifactStore) -> Document:
    """One verdict of a run as JSON values, attachments read from the store."""
    return {
        "round": number,
        "slice": diagnosis.slice.name,
        "cause": diagnosis.cause,
        "family": diagnosis.family,
        "confidence": diagnosis.confidence,
        "also": list(diagnosis.also),
        "summary": diagnosis.summary,
        "failed_count": diagnosis.failed_count,
        "evidence": [_evidence(row, store=store) for row in diagnosis.evidence],
        "scores": {score.cause: score.score for score in diagnosis.scores},
        "interventions": [
            {
                "kind": proposal.kind,
                "fixes": [f"{fix.setting}={fix.value_json}" for fix in proposal.fixes],
                "rationale": proposal.rationale,
            }
            for proposal in diagnosis.interventions
        ],
    }


def _evidence(row: EvidenceRow, *, store: ArtifactStore) -> Document:
    return {
        "probe": row.probe,
        "measurement": row.measurement,
        "value": row.value,
        "low": row.low,
        "high": row.high,
        "n": row.n,
        "reading": row.reading,
        "attachment": json.loads(store.get(row.attachment)) if row.attachment else None,
    }
