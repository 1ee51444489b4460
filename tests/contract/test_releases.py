"""A release says one version everywhere, and its messages are the contract that later ones may not break."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from google.protobuf import descriptor_pb2
from releases import ROOT, THIS, made, order, previous


def test_one_version_stands_everywhere() -> None:
    chart = yaml.safe_load((THIS.chart / "Chart.yaml").read_text())
    composed = (ROOT / "deploy" / "compose" / "compose.yaml").read_text()
    tags = re.findall(r"image: mendloop/[a-z-]+:(\S+)", composed)
    assert len(tags) == 7
    assert {chart["version"], chart["appVersion"], *tags} == {THIS.version}


def test_this_version_is_later_than_every_release_made() -> None:
    assert all(order(version) < order(THIS.version) for version in made()), "a release was made: raise the version"


def test_code_of_a_release_says_its_version(tmp_path: Path) -> None:
    assert previous(tmp_path).version == list(made())[-1]


def test_baseline_is_the_protos_of_the_release_before(tmp_path: Path) -> None:
    before = previous(tmp_path / "before")
    out = tmp_path / "before.binpb"
    protos = sorted((before.tree / "protos").rglob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{before.tree / 'protos'}", f"--descriptor_set_out={out}"]
    done = subprocess.run([*command, *map(str, protos)], capture_output=True, text=True, check=False)
    if "No module named" in done.stderr:
        pytest.skip("grpcio-tools is missing: pip install grpcio-tools")
    assert done.returncode == 0, done.stderr
    advice = "`make baseline` was left out at the release: docs/releasing.md"
    assert fields(out) == fields(ROOT / "protos" / "baseline.binpb"), advice


def fields(path: Path) -> set[tuple[str, int, int, int, str]]:
    """Every field of a descriptor set of ours: message and name, number, type, label, message type."""
    files = descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file
    return {
        row for file in files if file.package == "mendloop.v1" for row in _of_messages(file.message_type, file.package)
    }


def _of_messages(messages: Iterable[descriptor_pb2.DescriptorProto], scope: str) -> set[tuple[str, int, int, int, str]]:
    found = set()
    for message in messages:
        name = f"{scope}.{message.name}"
        found |= {(f"{name}.{f.name}", f.number, f.type, f.label, f.type_name) for f in message.field}
        found |= _of_messages(message.nested_type, name)
    return found
