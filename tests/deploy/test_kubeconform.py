"""Every values file gives manifests that Kubernetes' and the operators' own schemas accept, to the last field."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from deploy.chart import VALUES, rendered_text
from deploy.conftest import require
from deploy.schemas import write_schemas
from deploy.tools import CRDS, tools


@pytest.fixture(scope="session")
def location(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where kubeconform finds the schemas."""
    require("kubeconform", "swagger", *(f"CRDs of {name}" for name in CRDS))
    return write_schemas(tools(), tmp_path_factory.mktemp("schemas"))


def kubeconform(text: str, *, location: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = folder / "manifests.yaml"
    path.write_text(text)
    command = [tools().binary("kubeconform"), "-strict", "-summary", "-schema-location", location, path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("values", sorted(VALUES))
def test_manifests_fit_their_schemas(values: str, location: str, tmp_path: Path) -> None:
    done = kubeconform(rendered_text(values), location=location, folder=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "Invalid: 0, Errors: 0, Skipped: 0" in done.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("terminationGracePeriodSeconds:", "terminationGraceSeconds:"),
        ("cooldownPeriod:", "cooldown:"),
        ("podMetricsEndpoints:", "podMetricEndpoints:"),
        ("resourcesPerNode:", "resourcesPerPod:"),
    ],
)
def test_a_misspelt_field_is_found(right: str, wrong: str, location: str, tmp_path: Path) -> None:
    text = rendered_text("example")
    assert right in text
    done = kubeconform(text.replace(right, wrong), location=location, folder=tmp_path)
    assert done.returncode != 0
    assert wrong.rstrip(":") in done.stdout
