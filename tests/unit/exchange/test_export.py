"""A batch becomes a data set that other people's tools open, with a card that says where it comes from."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
import yaml
from exchange_world import EXAMPLES, RUN, batch_in, export

from mendloop.artifacts.store import ArtifactStore
from mendloop.exchange.folder import write_folder
from mendloop.exchange.formats import MAKERS


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def test_hugging_face_opens_the_folder_without_a_network(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the package datasets (extra lm-eval)")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    batch = batch_in(store)
    write_folder(tmp_path / "out", export(store, batch, "hf"), force=False)

    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))

    assert [(row["prompt"], row["completion"], row["source"]) for row in rows] == [
        (e.prompt, e.completion, e.source) for e in EXAMPLES
    ]
    assert rows[0]["id"] == f"{batch.short}-00000"
    assert rows[0]["axes"] == [{"axis": "verb", "values": ["jump"]}]


def test_card_tells_lineage_drops_audit_and_that_the_license_is_unknown(store: ArtifactStore) -> None:
    batch = batch_in(store)
    text = export(store, batch, "hf")["README.md"].decode()
    front = yaml.safe_load(text.split("---")[1])

    assert front["license"] == "unknown"
    assert front["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-00000-of-00001.parquet"}]
    assert f"of run `{RUN}`" in text
    assert "in round 1" in text
    assert "| verb=jump | data_missing | 0.93 | 2 of 40 |" in text
    assert "| decontamination | its prompt is an evaluation item | 7 |" in text
    assert "| verb | jump | 10.0% | 25.0% | 2 |" in text
    assert "| teacher:scan | 1 |" in text
    assert batch.artifact.sha256 in text
    assert "License: **unknown**" in text


def test_lineage_goes_with_every_format(store: ArtifactStore) -> None:
    batch = batch_in(store)
    for name in MAKERS:
        document = json.loads(export(store, batch, name)["lineage.json"])
        kinds = [node["name"].partition(":")[0] for node in document["nodes"]]
        assert kinds == ["batch", "plan", "diagnosis", "failure", "evaluation"], name
        assert (document["run_id"], document["round"], document["license"]) == (RUN, 1, "unknown")


def test_label_studio_predictions_fit_its_configuration(store: ArtifactStore) -> None:
    files = export(store, batch_in(store), "label-studio")
    config = ElementTree.fromstring(files["labelling-config.xml"].decode())
    objects = {tag.attrib["name"]: tag.attrib["value"] for tag in config.iter("Text")}
    controls = {tag.attrib["name"]: tag for kind in ("Choices", "TextArea") for tag in config.iter(kind)}

    for task in json.loads(files["tasks.json"]):
        assert {f"${name}" for name in task["data"]} >= set(objects.values())
        for result in task["predictions"][0]["result"]:
            control = controls[result["from_name"]]
            assert control.attrib["toName"] == result["to_name"] in objects
            choices = {tag.attrib["value"] for tag in control.iter("Choice")}
            assert set(result["value"].get("choices", ())) <= choices


def test_argilla_reads_the_records_and_the_settings_itself(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argilla = pytest.importorskip("argilla", reason="needs the package argilla")
    write_folder(tmp_path / "out", export(store, batch_in(store), "argilla"), force=False)
    no_server = SimpleNamespace(api=SimpleNamespace(fields=None, questions=None, metadata=None, vectors=None))
    monkeypatch.setattr(argilla.Argilla, "_default_client", no_server)

    settings = argilla.Settings.from_json(tmp_path / "out" / ".argilla" / "settings.json")
    read = [argilla.Record.from_dict(row) for row in json.loads((tmp_path / "out" / "records.json").read_text())]

    assert [field.name for field in settings.fields] == ["prompt", "completion"]
    assert [(q.name, q.required) for q in settings.questions] == [
        ("verdict", True),
        ("correction", False),
        ("note", False),
    ]
    assert [row.fields["prompt"] for row in read] == [e.prompt for e in EXAMPLES]
    assert {s.question_name: s.value for s in read[1].suggestions} == {"verdict": "accept", "correction": "I_JUMP"}


def test_same_batch_gives_the_same_bytes(store: ArtifactStore) -> None:
    batch = batch_in(store)
    for name in MAKERS:
        assert export(store, batch, name) == export(store, batch, name)
