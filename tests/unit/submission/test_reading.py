"""Axes that a language model reads: from a server that answers like one, and only once agreement is measured."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from chat_server import ChatServer
from gateways import recipe_document
from run_events import position, sent
from tiny_models import WORDS, save, tiny_llama, word_tokenizer
from typer.testing import CliRunner

from mendloop.artifacts.store import ArtifactStore
from mendloop.artifacts.tables import get_rows
from mendloop.cli.app import app
from mendloop.core.errors import InvalidRecipe
from mendloop.core.recipe import Recipe, parse_recipe
from mendloop.core.records import Item
from mendloop.core.wire import artifact_ref
from mendloop.gateway.adapters.submitting import Submission
from mendloop.report.page import render
from mendloop.report.summary import summarize
from mendloop.runs.fold import fold
from mendloop.runs.parts import RecipeFacts
from mendloop.submission.reading import axes_read, with_read_axes
from mendloop.submission.submit import resolve
from mendloop.v1.loop_pb2 import LoopRequested

FACTS = RecipeFacts("r", "scan", 1, False, False, ("kind",), 0.8, 0.05, 64, 1000, 60.0)
VALUES = {"turning": "the text says turn", "moving": "it says walk, run, look or jump and never turn"}


def read_kind(prompt: str, request: dict[str, Any]) -> str:
    """What a good reader says: by the text between the marks alone."""
    text = re.search(r"<<<\n(.*)\n>>>", prompt, re.DOTALL)
    assert text is not None
    return f"It asks for a movement.\n{'turning' if 'turn' in text[1] else 'moving'}"


def _labels(folder: Path, *, flip_every: int = 0) -> Path:
    rows = []
    for at in range(60):
        kind = "turning" if at % 2 else "moving"
        prompt = f"{'turn left' if at % 2 else 'jump'} and walk {at}"
        said = kind if not flip_every or at % flip_every else ("moving" if kind == "turning" else "turning")
        rows.append({"prompt": prompt, "axes": {"kind": said}})
    path = folder / "labelled.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def _reader(url: str, labelled: Path, **changes: Any) -> dict[str, Any]:
    question = {"axis": "kind", "question": "What does the command ask for?", "values": VALUES}
    return {"url": url, "model": "m", "axes": [question], "labelled": str(labelled), **changes}


def _recipe(reader: dict[str, Any]) -> Recipe:
    document = recipe_document()
    document["suite"] = {**document["suite"], "axes": ["verb", "kind"], "axes_reader": reader}
    return Recipe.model_validate(document)


def _items() -> list[Item]:
    return [Item(str(at), f"{'turn left' if at % 3 else 'run'} twice {at}", "x", "search") for at in range(12)]


def test_items_get_the_values_that_the_model_reads_and_the_agreement_is_reported(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    with ChatServer(read_kind) as server:
        recipe = _recipe(_reader(server.url, _labels(tmp_path, flip_every=20)))

        read = with_read_axes(_items(), recipe, store=store)

    assert [row.axes["kind"] for row in read[:3]] == [("moving",), ("turning",), ("turning",)]
    (report,) = axes_read(recipe, _items(), store=store)
    assert (report.labelled_count, report.item_count, report.unreadable_count, report.repeat_kappa) == (60, 12, 0, 1.0)
    assert 0.8 < report.kappa < 1.0
    assert report.floor <= report.low < report.kappa
    assert all(request["temperature"] == 0 and request["model"] == "m" for request in server.asked)


def test_what_was_read_is_kept_when_the_model_is_gone(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    with ChatServer(read_kind) as server:
        recipe = _recipe(_reader(server.url, _labels(tmp_path)))
        first = with_read_axes(_items(), recipe, store=store)

    assert with_read_axes(_items(), recipe, store=store) == first


def test_a_model_that_disagrees_with_people_reads_nothing(tmp_path: Path) -> None:
    with ChatServer(lambda prompt, request: "moving") as server:
        recipe = _recipe(_reader(server.url, _labels(tmp_path)))

        with pytest.raises(InvalidRecipe, match=r"suite.axes_reader: axis 'kind': kappa 0.00 .* on 60 labelled items"):
            with_read_axes(_items(), recipe, store=ArtifactStore(tmp_path / "store"))

    assert len(server.asked) == 2 * 60  # no item was asked about


def test_an_answer_that_names_no_value_leaves_the_item_without_one(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    with ChatServer(lambda p, r: "no idea" if "run twice" in p else read_kind(p, r)) as server:
        recipe = _recipe(_reader(server.url, _labels(tmp_path)))
        read = with_read_axes(_items(), recipe, store=store)

    assert [row.axes.get("kind") for row in read[:2]] == [None, ("turning",)]
    assert axes_read(recipe, _items(), store=store)[0].unreadable_count == 4


def test_a_busy_endpoint_is_asked_again_and_the_key_goes_with_it(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    with ChatServer(read_kind, refusals=2) as server:
        reader = _reader(server.url, _labels(tmp_path), api_key_file=str(key), concurrency=1)
        with_read_axes(_items()[:1], _recipe(reader), store=ArtifactStore(tmp_path / "store"))

    assert {request["authorization"] for request in server.asked} == {"Bearer secret"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"labelled.jsonl:1: no labelled item"),
        ('{"prompt": "x", "axes": {"kind": "flying"}}', r"1 labelled items, 30 or more .* no value of it: flying"),
    ],
)
def test_bad_labels_are_refused(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "labelled.jsonl").write_text(line)
    recipe = _recipe(_reader("http://127.0.0.1:9/v1", tmp_path / "labelled.jsonl"))

    with pytest.raises(InvalidRecipe, match=said):
        with_read_axes(_items(), recipe, store=ArtifactStore(tmp_path / "store"))


def test_a_reader_of_an_axis_that_the_suite_does_not_have_is_refused() -> None:
    document = recipe_document()
    document["suite"] = {**document["suite"], "axes_reader": _reader("http://x/v1", Path("labels"))}

    with pytest.raises(InvalidRecipe, match="axes_reader reads kind, which suite"):
        parse_recipe(yaml.safe_dump(document), source="r.yaml")


def test_a_recipe_from_the_network_may_not_make_the_gateway_ask_addresses(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    submission = Submission(bus=None, store=store, sealed_store=store, models_dir=tmp_path)  # type: ignore[arg-type]  # refused before the bus is touched

    with pytest.raises(InvalidRecipe, match="over the network it is refused"):
        submission(_recipe(_reader("http://x/v1", Path("labels"))), run_id="r", requested_by="")


def test_mend_eval_finds_weak_slices_on_an_axis_that_a_model_read(tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "model", tiny_llama(len(WORDS)), word_tokenizer())
    with ChatServer(read_kind) as server:
        suite = {"axes": ["kind"], "search": 40, "confirm": 20, "sealed": 0, "max_new_tokens": 4}
        suite["axes_reader"] = _reader(server.url, _labels(tmp_path))
        document = {"name": "read", "task": "scan", "base": {"model": "."}, "suite": suite}
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(document))
        out = tmp_path / "out"
        command = ["eval", str(checkpoint), "--recipe", str(tmp_path / "recipe.yaml"), "--out", str(out)]

        done = CliRunner().invoke(app, command)

    assert done.exit_code == 0, done.output
    assert "axis kind was read by a model: kappa 1.00 (95 % interval 1.00 to 1.00) on 60 labelled items" in done.output
    facts = json.loads((out / "evaluation.json").read_text())
    assert facts["axes_reader"][0]["item_count"] == 60
    assert facts["weak_slices"]


def test_a_run_keeps_how_its_axes_were_read_and_its_report_says_it(tmp_path: Path) -> None:
    store, sealed = ArtifactStore(tmp_path / "store"), ArtifactStore(tmp_path / "sealed")
    save(tmp_path / "model", tiny_llama(len(WORDS)), word_tokenizer())
    with ChatServer(read_kind) as server:
        suite = {"axes": ["kind"], "search": 20, "confirm": 20, "sealed": 20, "max_new_tokens": 4}
        suite["axes_reader"] = _reader(server.url, _labels(tmp_path))
        recipe = Recipe.model_validate({"name": "r", "task": "scan", "base": {"model": "model"}, "suite": suite})
        spec = resolve(recipe, store=store, sealed_store=sealed, base_dir=tmp_path)
    asked = LoopRequested(position=position("r"), run_spec=artifact_ref(spec.store(store)))

    view = fold(None, sent(asked))
    assert view is not None
    page = render([summarize(replace(view, recipe=FACTS), store=store)], title="t", subtitle="s")

    assert spec.sealed_items is not None
    rows = [*get_rows(store, spec.items, kind=Item), *get_rows(sealed, spec.sealed_items, kind=Item)]
    assert {row.axes["kind"] for row in rows} == {("turning",), ("moving",)}
    assert all(row.axes["kind"] == ("turning" if "turn" in row.prompt else "moving",) for row in rows)
    assert "axis kind was read by a model: kappa 1.00" in page
    assert "0 of 40 items unreadable" in page
