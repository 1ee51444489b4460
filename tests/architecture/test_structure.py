"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from mendloop.core.settings import KNOWN_ELSEWHERE, ServiceSettings

ROOT = Path(__file__).resolve().parents[2]
CODE = ROOT / "services" / "mendloop"
MODULES = sorted(p for p in CODE.rglob("*.py") if "v1" not in p.relative_to(CODE).parts and "versions" not in p.parts)
FOLDERS = {
    "artifacts": "content-addressed store, tables, lineage",
    "attribution": "training examples behind what a model says: gradient index and query",
    "axes": "axis values of items: rules, form, a measured reader",
    "bus": "interface, SQLite bus, Kafka bus, consume loop",
    "cli": "mend",
    "client": "the Python client of a gateway",
    "comparison": "two sets of outcomes on the same items",
    "controller": "budgets, gates, decisions",
    "core": "contracts, records, statistics, settings",
    "database": "SQL databases of services: engines and migrations",
    "data_generator": "data for weak slices",
    "diagnostician": "why a slice is weak",
    "evaluator": "scores and weak slices",
    "examples": "SCAN and recipes that ship",
    "exchange": "a batch as a data set for people, and their review of it",
    "gateway": "REST, event stream and the web page",
    "models": "checkpoints and generation backends",
    "passes": "a whole corpus: duplicates, decontamination, clusters, on one machine or on Ray",
    "report": "a run as a page",
    "steps": "process supervision: steps of an output and the first wrong one",
    "judging": "model judges and their measured error",
    "runs": "a run as people see it: the fold of its events",
    "submission": "recipe to run",
    "suites": "suites from elsewhere",
    "trackers": "a run in MLflow and Weights & Biases",
    "trainer": "training jobs",
    "callback": "evaluations inside anybody's Hugging Face training",
    "v1": "generated protobuf",
}
SERVICES = ("evaluator", "diagnostician", "data_generator", "trainer", "controller", "gateway")
IMPURE = {"torch", "transformers", "kafka", "fastapi", "google", "os", "sqlalchemy", "fsspec", "subprocess", "socket"}
HEAVY = {"torch", "transformers", "vllm"}


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_every_folder_is_listed() -> None:
    actual = {p.name for p in CODE.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert actual <= set(FOLDERS), "say in FOLDERS what a new folder is for"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(CODE)))
def test_module_is_documented_and_short(path: Path) -> None:
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path} needs a docstring that says what it owns"
    assert len(text.splitlines()) <= 400, f"{path} has more than 400 lines: one noun a file"


@pytest.mark.parametrize("path", [p for p in MODULES if "domain" in p.parts], ids=lambda p: str(p.relative_to(CODE)))
def test_domain_is_pure(path: Path) -> None:
    roots = {name.split(".")[0] for name in _imports(path)}
    assert not roots & IMPURE
    assert not [
        name for name in _imports(path) if name.startswith(("mendloop.v1", "mendloop.bus", "mendloop.artifacts"))
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(CODE)))
def test_heavy_imports_stay_in_adapters(path: Path) -> None:
    if {"adapters", "models", "examples", "suites"} & set(path.relative_to(CODE).parts):
        return
    assert not {name.split(".")[0] for name in _imports(path)} & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(CODE)))
def test_services_never_import_one_another(path: Path) -> None:
    own = path.relative_to(CODE).parts[0]
    others = tuple(f"mendloop.{name}" for name in SERVICES if name != own)
    if own in SERVICES:
        assert not [name for name in _imports(path) if name.startswith(others)]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(CODE)))
def test_only_main_reads_the_environment(path: Path) -> None:
    if path.name == "__main__.py" or path.relative_to(CODE).as_posix() in {"core/settings.py"} or "cli" in path.parts:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}), path


def test_all_services_can_share_one_environment() -> None:
    own = set()
    for service in SERVICES:
        module = importlib.import_module(f"mendloop.{service}.settings")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, ServiceSettings):
                own |= set(value.model_fields) - set(ServiceSettings.model_fields)
    listed = {name.removeprefix("MENDLOOP_").lower() for name in KNOWN_ELSEWHERE} - {"cache", "token"}
    assert listed == own
