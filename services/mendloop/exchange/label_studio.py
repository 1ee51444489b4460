"""A batch as Label Studio tasks with pre-annotations and the labelling configuration, and its JSON export read back.

The pre-annotation accepts each row with its own completion, so that a person only touches what is wrong.
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
from mendloop.exchange.review import Annotation
from mendloop.exchange.rows import Row

TASKS_FILE, CONFIG_FILE = "tasks.json", "labelling-config.xml"
EXPORT = "Label Studio's JSON export: a list of tasks with `data` and `annotations` (not JSON-MIN)"
CONFIG = """\
<View>
  <Header value="Prompt"/>
  <Text name="prompt" value="$prompt"/>
  <Header value="Completion"/>
  <Text name="completion" value="$completion"/>
  <Choices name="verdict" toName="completion" choice="single" required="true">
    <Choice value="accept" hint="prompt and completion are right"/>
    <Choice value="correct" hint="the right completion stands below"/>
    <Choice value="reject" hint="nothing to learn from it"/>
  </Choices>
  <Header value="Completion as it should be (for correct)"/>
  <TextArea name="correction" toName="completion" editable="true" maxSubmissions="1" rows="3"/>
  <Header value="Note"/>
  <TextArea name="note" toName="completion" maxSubmissions="1" rows="1"/>
</View>
"""


def files(batch: StoredBatch, history: Provenance) -> dict[str, bytes]:
    """Tasks, configuration and a card."""
    how_to = (
        f"In Label Studio: make a project with `{CONFIG_FILE}` as its labelling interface, import `{TASKS_FILE}`, "
        "label, and export as JSON. Each task comes accepted; choose `correct` and write the completion, or `reject`. "
        f"Then: `mend import EXPORT.json --format label-studio --for {batch.short}`.\n"
    )
    tasks = [_task(row, batch=batch, history=history) for row in batch.rows]
    return {
        TASKS_FILE: json.dumps(tasks, indent=1, ensure_ascii=False).encode(),
        CONFIG_FILE: CONFIG.encode(),
        "README.md": card(batch, history, front_matter={}, how_to=how_to).encode(),
    }


def read_annotations(path: Path) -> list[Annotation]:
    """What people said; predictions are not people. A cancelled annotation is a skipped row. Raises InvalidReview."""
    found = entries(path, what=EXPORT, noun="task")
    return [one for task, where in found for one in _annotations(task, where=where)]


def _task(row: Row, *, batch: StoredBatch, history: Provenance) -> dict[str, Any]:
    example = row.example
    accepted = {"id": "verdict", "from_name": "verdict", "to_name": "completion", "type": "choices"}
    written = {"id": "correction", "from_name": "correction", "to_name": "completion", "type": "textarea"}
    return {
        "data": {
            "id": row.row_id,
            "prompt": example.prompt,
            "completion": example.completion,
            "source": example.source,
            "slice": " ∧ ".join(f"{axis}={'+'.join(values)}" for axis, values in sorted(example.axes.items())),
            "run": history.run_id,
        },
        "predictions": [
            {
                "model_version": f"mendloop-{batch.short}",
                "result": [
                    {**accepted, "value": {"choices": ["accept"]}},
                    {**written, "value": {"text": [example.completion]}},
                ],
            }
        ],
    }


def _annotations(task: Mapping[str, Any], *, where: str) -> Iterator[Annotation]:
    if "data" not in task or not isinstance(task.get("annotations"), list):
        raise InvalidReview(f"{where} has no `data` or no list of `annotations`; it must be {EXPORT}")
    data = mapping(task["data"], where=f"{where}, data")
    row_id = text(data, "id", where=f"{where}, data", needed=True)
    prompt = text(data, "prompt", where=f"{where}, data")
    for index, raw in enumerate(task["annotations"]):
        place = f"{where}, annotation {index}"
        one = mapping(raw, where=place)
        said = {} if one.get("was_cancelled") else _results(one, where=place)
        yield Annotation(
            row_id=row_id,
            prompt=prompt,
            verdict=said.get("verdict", ""),
            completion=said.get("correction", ""),
            annotator=_who(one.get("completed_by")),
            note=said.get("note", ""),
        )


def _results(annotation: Mapping[str, Any], *, where: str) -> dict[str, str]:
    """The first choice or text of each control. Raises InvalidReview where a result is not of our configuration."""
    said: dict[str, str] = {}
    results = annotation.get("result")
    for raw in results if isinstance(results, list) else []:
        result = mapping(raw, where=f"{where}, result")
        value = mapping(result.get("value"), where=f"{where}, value")
        found = value.get("choices") or value.get("text") or [""]
        said[str(result.get("from_name"))] = found if isinstance(found, str) else str(found[0])
    unknown = sorted(set(said) - {"verdict", "correction", "note"})
    if unknown:
        raise InvalidReview(f"{where} has results of {', '.join(unknown)}: label with {CONFIG_FILE} of the export")
    return said


def _who(completed_by: object) -> str:
    """The annotator's address, else number: exports carry either an id or an object."""
    if isinstance(completed_by, dict):
        return str(completed_by.get("email") or completed_by.get("id") or "")
    return "" if completed_by is None else str(completed_by)
