"""The data generator as `mend up` starts it reads nothing of the sealed store, and still keeps its items out."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_until

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import get_rows, put_rows
from mendloop.cli.deployment import Deployment, deployment_at
from mendloop.core.contracts import DATA_GENERATOR, EVALUATOR, GATEWAY, SERVICES, contract_of
from mendloop.core.errors import CorruptArtifact
from mendloop.core.events import envelope_for
from mendloop.core.recipe import Recipe
from mendloop.core.records import Example, Item, Outcome
from mendloop.core.run_spec import RunSpec
from mendloop.core.wire import artifact_of, artifact_ref, slice_message
from mendloop.data_generator.settings import Settings
from mendloop.examples.scan.grammar import all_pairs
from mendloop.submission.submit import submit
from mendloop.v1 import common_pb2, diagnosis_pb2, intervention_pb2, loop_pb2

pytestmark = pytest.mark.integration
RUN = "scan-1"
JUMP = (("verb", "jump"),)
WATCHED = """
import json, runpy, sys
seen = open(sys.argv[1], "a", buffering=1)
def watch(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "os.rename") and isinstance(arguments[0], (str, bytes)):
        seen.write(json.dumps(str(arguments[0])) + "\\n")
sys.addaudithook(watch)
runpy.run_module("mendloop.data_generator", run_name="__main__")
"""
"""The service with a list of every file and folder that its process opens: Python's own audit events (PEP 578)."""


def scan_recipe() -> Recipe:
    return Recipe.model_validate(
        {
            "name": "scan",
            "task": "scan",
            "base": {"model": "package:scan/base"},
            "corpus": {"split": "add_prim_jump"},
            "suite": {"axes": ["verb"], "search": 60, "confirm": 30, "sealed": 60, "options": {"domain": "all"}},
        }
    )


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """A deployment in which a run of SCAN was asked for, with stores and bus where `mend up` has them."""
    target = deployment_at(tmp_path_factory.mktemp("deployment") / "home")
    target.home.mkdir()
    submit(
        scan_recipe(),
        bus=target.bus(),
        store=target.store(),
        sealed_store=target.sealed_store(),
        base_dir=target.home,
        run_id=RUN,
    )
    return target


def spec_of(deployment: Deployment) -> RunSpec:
    [request] = deployment.bus().read([contract_of(loop_pb2.LoopRequested).topic])
    message = loop_pb2.LoopRequested.FromString(request.envelope.value)
    return RunSpec.load(deployment.store(), artifact_of(message.run_spec))


def place_of(deployment: Deployment) -> str:
    return deployment.sealed_uri.removeprefix("file://")


def sealed_items(deployment: Deployment) -> list[Item]:
    sealed = spec_of(deployment).sealed_items
    assert sealed is not None
    return get_rows(deployment.sealed_store(), sealed, kind=Item)


def test_no_service_but_evaluator_and_gateway_is_told_where_sealed_items_lie(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MENDLOOP_SEALED_ARTIFACTS_URI", deployment.sealed_uri)

    place = place_of(deployment)
    told = {
        service
        for service in SERVICES
        if any(place in value for value in deployment.environment(service, name=service).values())
    }

    assert told == {EVALUATOR, GATEWAY}


def test_settings_of_the_started_process_lead_to_no_sealed_store(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in deployment.environment(DATA_GENERATOR, name="generator").items():
        monkeypatch.setenv(name, value)

    assert place_of(deployment) not in repr(Settings.from_environment())


def test_run_specification_names_the_sealed_items_and_not_their_place(deployment: Deployment) -> None:
    spec = spec_of(deployment)
    assert spec.sealed_items is not None
    assert spec.sealed_items.uri == ""
    assert place_of(deployment) not in json.dumps(spec_document(deployment))

    with pytest.raises(CorruptArtifact, match="missing"):
        deployment.store().get(spec.sealed_items)

    for name in ("base", "corpus", "items", "fingerprints"):
        assert deployment.store().get(getattr(spec, name))


def spec_document(deployment: Deployment) -> dict[str, Any]:
    [request] = deployment.bus().read([contract_of(loop_pb2.LoopRequested).topic])
    message = loop_pb2.LoopRequested.FromString(request.envelope.value)
    document: dict[str, Any] = json.loads(deployment.store().get(artifact_of(message.run_spec)))
    return document


def contaminated_plan(deployment: Deployment) -> intervention_pb2.InterventionPlanned:
    """A plan for `jump` whose pool holds sealed items, as if they had been scraped after the submission."""
    store = deployment.store()
    leaked = [Example(i.prompt, i.target, "scraped") for i in sealed_items(deployment) if "jump" in i.axes["verb"]]
    assert len(leaked) >= 3, "the suite has too few sealed items of the slice"
    spec = spec_of(deployment)
    items = {item.prompt for item in (*sealed_items(deployment), *get_rows(store, spec.items, kind=Item))}
    clean = [Example(p.command, p.actions, "pool") for p in all_pairs()[::97] if "jump" in p.command.split()]
    pool = leaked + [row for row in clean if row.prompt not in items]
    part = get_rows(store, spec.corpus, kind=Example)[:300]  # the whole one takes seconds to index
    spec = replace(spec, pool=put_rows(store, pool, kind=Example), corpus=put_rows(store, part, kind=Example))
    return intervention_pb2.InterventionPlanned(
        position=common_pb2.RunPosition(run_id=RUN, round=1),
        plan_id="p1",
        kind=diagnosis_pb2.INTERVENTION_KIND_DATA,
        items=[intervention_pb2.PlanItem(slice=slice_message(JUMP), example_count=4)],
        run_spec=artifact_ref(spec.store(store)),
    )


@pytest.fixture(scope="module")
def answered(deployment: Deployment) -> tuple[intervention_pb2.DataBatchReady, list[str]]:
    """What the started process answered, and every path that it opened."""
    seen = deployment.home / "seen"
    for path in (deployment.port_file("generator"), deployment.log_file("generator")):
        path.parent.mkdir(parents=True, exist_ok=True)
    plan = contaminated_plan(deployment)
    envelope = envelope_for(plan, event_id="plan", source="controller", key=RUN, subject=RUN)
    deployment.bus().publish([envelope])
    with deployment.log_file("generator").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHED, str(seen)],
            env=deployment.environment(DATA_GENERATOR, name="generator"),
            stdout=log,
            stderr=log,
        )
    try:
        topic = contract_of(intervention_pb2.DataBatchReady).topic
        [ready] = wait_until(lambda: deployment.bus().read([topic]), deadline_s=240)
    finally:
        process.terminate()
        process.wait(timeout=60)
    message = intervention_pb2.DataBatchReady.FromString(ready.envelope.value)
    return message, [json.loads(line) for line in seen.read_text().splitlines()]


def test_the_started_process_opens_nothing_of_the_sealed_store(
    deployment: Deployment, answered: tuple[intervention_pb2.DataBatchReady, list[str]]
) -> None:
    _, opened = answered
    sealed, artifacts = (uri.removeprefix("file://") for uri in (deployment.sealed_uri, deployment.artifacts_uri))

    assert [path for path in opened if artifacts in path], "the watch saw nothing at all"
    assert [path for path in opened if sealed in path] == []


def test_sealed_items_are_kept_out_by_their_fingerprints(
    deployment: Deployment, answered: tuple[intervention_pb2.DataBatchReady, list[str]]
) -> None:
    ready, _ = answered
    sealed = {item.prompt for item in sealed_items(deployment)}
    leaked = {i.prompt for i in sealed_items(deployment) if "jump" in i.axes["verb"]}

    made = get_rows(deployment.store(), artifact_of(ready.batch), kind=Example)

    assert made
    assert {row.prompt for row in made} & sealed == set()
    dropped = sum(drop.count for drop in ready.drops if drop.stage == "decontamination")
    assert dropped >= len(leaked)


def test_nothing_that_the_process_left_or_could_read_before_says_a_sealed_item(
    deployment: Deployment, answered: tuple[intervention_pb2.DataBatchReady, list[str]]
) -> None:
    ready, _ = answered
    sealed = {item.prompt for item in sealed_items(deployment)}
    planted = RunSpec.load(deployment.store(), artifact_of(ready.plan.run_spec)).pool
    assert planted is not None

    said = prompts_in(deployment.store(), deployment.home / "artifacts", without=planted)

    assert len(said) > 200
    assert said & sealed == set()


def prompts_in(store: ArtifactStore, folder: Path, *, without: Artifact) -> set[str]:
    """Prompts of every table of a store but one, and every text in quotation marks of its other objects."""
    found: set[str] = set()
    for path in (folder / "objects").rglob("*"):
        if not path.is_file() or path.name == without.sha256:
            continue
        artifact = store.find(path.name)
        assert artifact is not None
        found |= set(store.get(artifact).decode(errors="replace").split('"'))
        for kind in (Item, Example, Outcome):
            try:
                found |= {row.prompt for row in get_rows(store, artifact, kind=kind)}
            except CorruptArtifact:
                continue  # an object of another kind
    return found
