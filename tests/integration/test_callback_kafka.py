"""MendloopCallback publishes over a real broker, where a subscriber of another team reads what it says."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import recipe
from training import TEMPLATE, scan_examples, tiny_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
from waiting import wait_until

from mendloop.artifacts.tables import get_rows
from mendloop.bus.base import Consumer
from mendloop.bus.wiring import open_bus, open_store
from mendloop.callback import MendloopCallback
from mendloop.core.contracts import contract_of, decode
from mendloop.core.records import Outcome
from mendloop.core.wire import artifact_of
from mendloop.models.encoding import encode_example
from mendloop.v1 import evaluation_pb2

pytestmark = pytest.mark.integration
SUITE = {
    "search": 40,
    "confirm": 40,
    "sealed": 0,
    "axes": ["verb"],
    "min_items": 5,
    "max_depth": 1,
    "max_new_tokens": 4,
    "shards": 1,
    "options": {"domain": "all"},
}


def _collate(rows: list[Any]) -> dict[str, Any]:
    width = max(len(row.input_ids) for row in rows)
    ids = torch.tensor([[*row.input_ids, *[0] * (width - len(row.input_ids))] for row in rows])
    return {"input_ids": ids, "labels": ids.masked_fill(ids == 0, -100)}


def _train(start: Path, folder: Path, callback: MendloopCallback) -> None:
    tokenizer = AutoTokenizer.from_pretrained(start)
    rows = [encode_example(tokenizer, TEMPLATE.format(prompt=r.prompt), r.completion) for r in scan_examples(16)]
    arguments = TrainingArguments(
        str(folder),
        max_steps=2,
        per_device_train_batch_size=4,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    Trainer(
        model=AutoModelForCausalLM.from_pretrained(start),
        args=arguments,
        train_dataset=rows,
        data_collator=_collate,
        processing_class=tokenizer,
        callbacks=[callback],
    ).train()


def test_a_subscriber_on_the_broker_reads_every_evaluation_and_its_outcomes(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    address, run_id = f"kafka:{kafka_bootstrap}", f"live-{secrets.token_hex(4)}"
    artifacts = (tmp_path / "shared").as_uri()
    callback = MendloopCallback(
        recipe(task="scan", template=TEMPLATE, suite=SUITE),
        every_steps=1,
        out_dir=tmp_path / "eval",
        bus=address,
        artifacts_uri=artifacts,
        run_id=run_id,
    )

    _train(tiny_checkpoint(tmp_path / "start"), tmp_path / "out", callback)

    assert callback.errors == []
    kinds = (evaluation_pb2.EvalCompleted, evaluation_pb2.EvalFailed)
    subscriber = open_bus(address).consumer(f"team-{run_id}", [contract_of(kind).topic for kind in kinds], member="m")
    wanted = 2 + sum(len(result.weak) for result in callback.results)
    found: list[Any] = []
    wait_until(lambda: _read(subscriber, found, run_id=run_id) >= wanted, deadline_s=60)
    completed = [message for message in found if isinstance(message, evaluation_pb2.EvalCompleted)]
    assert sorted(message.position.round for message in completed) == [0, 1]
    assert len(found) == wanted > 2  # an untrained model is weak somewhere
    outcomes = get_rows(open_store(artifacts), artifact_of(completed[0].outcomes), kind=Outcome)
    assert len(outcomes) == completed[0].accuracy.n == 80
    assert not (tmp_path / "eval" / "bus.db").exists()


def _read(subscriber: Consumer, found: list[Any], *, run_id: str) -> int:
    """Take what is there; the number of messages of the run so far."""
    delivery = subscriber.poll(timeout_s=0.5)
    if delivery is not None:
        message: Any = decode(delivery.envelope.event_type, delivery.envelope.value)
        subscriber.complete(delivery)
        if message.position.run_id == run_id:
            found.append(message)
    return len(found)
