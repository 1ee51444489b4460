"""Builds the example consumers of docs/consumers once; what was built stays in the cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mendloop.bus.broker import DEFAULT_CACHE
from mendloop.core.events import stable_hash

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES, PROTOS = ROOT / "docs" / "consumers", ROOT / "protos"
CACHE = Path(os.environ.get("MENDLOOP_CACHE") or DEFAULT_CACHE).expanduser() / "consumers"
BUILD_S = 280
PROTOC_GEN_GO = "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12"


def need(*tools: str) -> None:
    """Skip where a tool is missing, naming it."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not on the PATH: {', '.join(missing)}")


def build_go() -> list[str]:
    """The command of the Go consumer."""
    need("go")

    def build(folder: Path) -> None:
        environment = {"GOFLAGS": "-p=1", "GOBIN": str(CACHE / "bin")}
        if not (CACHE / "bin" / "protoc-gen-go").exists():
            _run(["go", "install", PROTOC_GEN_GO], cwd=folder, more=environment)
        path = {"PATH": f"{CACHE / 'bin'}:{os.environ['PATH']}", "PROTOC": f"{sys.executable} -m grpc_tools.protoc"}
        _run(["./generate.sh", str(PROTOS)], cwd=folder, more=path)
        _run(["go", "build", "-o", "consumer", "."], cwd=folder, more=environment)

    return [str(_built("go", build) / "consumer")]


def build_java() -> list[str]:
    """The command of the Java consumer."""
    need("mvn", "java", "javac")

    def build(folder: Path) -> None:
        _run(["mvn", "-q", "-B", f"-Dprotos={PROTOS}", "package", "dependency:copy-dependencies"], cwd=folder, more={})

    target = _built("java", build) / "target"
    return ["java", "-Xmx128m", "-cp", f"{target / 'classes'}:{target / 'dependency'}/*", "consumer.Consumer"]


def _built(language: str, build: Callable[[Path], None]) -> Path:
    """The folder of what was built from these sources and protos; several tests at once build twice and keep one."""
    sources = sorted(path for folder in (EXAMPLES / language, PROTOS) for path in folder.rglob("*") if path.is_file())
    folder = CACHE / f"{language}-{stable_hash(*(path.read_bytes() for path in sources))[:16]}"
    if folder.exists():
        return folder
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE, prefix=f".{language}-") as text:
        work = Path(text) / "work"
        shutil.copytree(EXAMPLES / language, work)
        build(work)
        if not folder.exists():
            work.rename(folder)
    return folder


def _run(command: list[str], *, cwd: Path, more: Mapping[str, str]) -> None:
    made = subprocess.run(
        command, cwd=cwd, env={**os.environ, **more}, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    assert made.returncode == 0, f"{' '.join(command)} failed:\n{made.stdout[-2000:]}\n{made.stderr[-4000:]}"
