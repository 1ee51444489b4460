"""A batch in the layout of Argilla 2.x on disk, which `rg.Dataset.from_disk(FOLDER)` opens, and its records read back.

Suggestions accept each row with its own completion. `dataset.records.to_json` writes responses without their status:
drafts that somebody left cannot be told from submitted ones there; a status that is given is respected.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mendloop.core.errors import InvalidReview
from mendloop.exchange.batches import StoredBatch
from mendloop.exchange.card import card
from mendloop.exchange.provenance import Provenance
from mendloop.exchange.reading import entries, mapping, text
from mendloop.exchange.review import VERDICTS, Annotation
from mendloop.exchange.rows import Row

RECORDS_FILE, SETTINGS_FILE, DATASET_FILE = "records.json", ".argilla/settings.json", ".argilla/dataset.json"
EXPORT = "records of Argilla 2.x: a list of objects with id, fields and responses, as `dataset.records.to_json` writes"
GUIDELINES = (
    "Accept a row whose completion is right for its prompt, correct it by writing the right completion, or reject it."
)
SUBMITTED = ("", "submitted")


def files(batch: StoredBatch, history: Provenance) -> dict[str, bytes]:
    """Records, settings, and a card."""
    how_to = (
        "```python\n"
        "import argilla as rg\n\n"
        'client = rg.Argilla(api_url="...", api_key="...")\n'
        'dataset = rg.Dataset.from_disk("FOLDER", client=client)  # the folder that holds this file\n'
        'dataset.records.to_json("reviewed.json")  # when people have answered\n'
        "```\n\n"
        f"Then: `mend import reviewed.json --format argilla --for {batch.short}`.\n"
    )
    return {
        RECORDS_FILE: _json([_record(row, batch=batch, history=history) for row in batch.rows]),
        SETTINGS_FILE: _json(_settings()),
        DATASET_FILE: _json({"name": f"mendloop-{batch.short}", "guidelines": GUIDELINES}),
        "README.md": card(batch, history, front_matter={}, how_to=how_to).encode(),
    }


def read_annotations(path: Path) -> list[Annotation]:
    """What people said; suggestions are not people. A record nobody answered has none. Raises InvalidReview."""
    found = entries(path, what=EXPORT, noun="record")
    return [one for record, where in found for one in _annotations(record, where=where)]


def _record(row: Row, *, batch: StoredBatch, history: Provenance) -> dict[str, Any]:
    example = row.example
    agent = f"mendloop-{batch.short}"
    return {
        "id": row.row_id,
        "fields": {"prompt": example.prompt, "completion": example.completion},
        "metadata": {
            "source": example.source,
            "run": history.run_id,
            **{f"axis_{axis}": "+".join(values) for axis, values in example.axes.items()},
        },
        "suggestions": {
            "verdict": {"value": "accept", "score": None, "agent": agent},
            "correction": {"value": example.completion, "score": None, "agent": agent},
        },
        "responses": {},
        "vectors": {},
        "status": "pending",
        "_server_id": None,
    }


def _settings() -> dict[str, Any]:
    verdicts = {"type": "label_selection", "options": [{"text": v, "value": v} for v in VERDICTS]}
    return {
        "guidelines": GUIDELINES,
        "fields": [_field(name) for name in ("prompt", "completion")],
        "questions": [
            _question("verdict", "Verdict", settings={**verdicts, "visible_options": 3}, required=True),
            _question("correction", "Completion as it should be", settings=_text_box(), required=False),
            _question("note", "Note", settings=_text_box(), required=False),
        ],
        "vectors": [],
        "metadata": [],
        "allow_extra_metadata": True,
        "distribution": {"strategy": "overlap", "min_submitted": 1},
        "mapping": None,
    }


def _text_box() -> dict[str, Any]:
    return {"type": "text", "use_markdown": False}


def _field(name: str) -> dict[str, Any]:
    return {"name": name, "title": name.capitalize(), "required": True, "type": "text", "settings": _text_box()}


def _question(name: str, title: str, *, settings: Mapping[str, Any], required: bool) -> dict[str, Any]:
    return {"name": name, "title": title, "required": required, "type": settings["type"], "settings": settings}


def _annotations(record: Mapping[str, Any], *, where: str) -> Iterator[Annotation]:
    """One annotation a person: the responses lie by question, each with the person's id."""
    if "id" not in record or "fields" not in record:
        raise InvalidReview(f"{where} has no `id` or no `fields`; it must be {EXPORT}")
    fields = mapping(record["fields"], where=f"{where}, fields")
    responses = mapping(record.get("responses") or {}, where=f"{where}, responses")
    said: dict[str, dict[str, str]] = {}
    for question, answers in responses.items():
        for raw in answers if isinstance(answers, list) else []:
            answer = mapping(raw, where=f"{where}, {question}")
            if str(answer.get("status") or "") in SUBMITTED and answer.get("value") is not None:
                said.setdefault(str(answer.get("user_id") or ""), {})[question] = str(answer["value"])
    row_id = text(record, "id", where=where, needed=True)
    prompt = text(fields, "prompt", where=f"{where}, fields")
    for person, words in said.items():
        yield Annotation(
            row_id=row_id,
            prompt=prompt,
            verdict=words.get("verdict", ""),
            completion=words.get("correction", ""),
            annotator=person,
            note=words.get("note", ""),
        )
    if not said:
        yield Annotation(row_id, prompt, "")


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()
