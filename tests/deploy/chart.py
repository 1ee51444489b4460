"""Renders the chart with the real Helm, for tests: manifests as dictionaries, refusals as text."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import Any

import yaml
from deploy.tools import KUBERNETES, tools

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "mendloop"
VALUES = {
    "example": CHART / "values-example.yaml",
    "dev": CHART / "values-dev.yaml",
    "small": Path(__file__).parent / "values-small.yaml",
}
RELEASE, NAMESPACE = "r", "m"
Manifest = dict[str, Any]


class Refused(Exception):
    """Helm would not render; the message is Helm's."""


def helm(*arguments: str | Path, environment: dict[str, str] | None = None) -> str:
    """What Helm prints. Raises Refused."""
    done = subprocess.run(
        [tools().binary("helm"), *map(str, arguments)], capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode != 0:
        raise Refused(done.stderr)
    return done.stdout


@functools.cache
def rendered_text(values: str, *settings: str, chart: Path = CHART) -> str:
    """The manifests of a values file with further --set-json settings, as YAML; of this chart or an earlier one."""
    further = [word for setting in settings for word in ("--set-json", setting)]
    where = ("--namespace", NAMESPACE, "--kube-version", KUBERNETES)
    return helm("template", RELEASE, chart, "-f", VALUES[values], *where, *further)


@functools.cache
def rendered(values: str, *settings: str, chart: Path = CHART) -> list[Manifest]:
    """The manifests of a values file. Shared by tests: to be read, not changed."""
    # The compiled parser: the plain one takes 1.5 s for these 2,200 lines.
    return [
        document
        for document in yaml.load_all(rendered_text(values, *settings, chart=chart), yaml.CSafeLoader)
        if document
    ]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """Manifests of a kind by name without the release's prefix."""
    prefix = f"{RELEASE}-mendloop-"
    return {m["metadata"]["name"].removeprefix(prefix): m for m in manifests if m["kind"] == kind}


def pod_specs(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Every pod spec that the manifests would start, by kind and name."""
    found = {}
    for manifest in manifests:
        spec = manifest["spec"] if manifest["kind"] == "Pod" else _template(manifest).get("spec")
        if spec:
            found[f"{manifest['kind']}/{manifest['metadata']['name']}"] = spec
    return found


def environment_of(manifests: list[Manifest], service: str) -> dict[str, Any]:
    """A service's environment: its ConfigMap and its container's env, values or references."""
    specs = {
        name.rsplit("mendloop-")[-1]: spec
        for name, spec in pod_specs(manifests).items()
        if "Job/" not in name or "Scaled" in name
    }
    container = next(c for c in specs[service]["containers"] if c["name"] == service)
    own = {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container["env"]}
    return {**of_kind(manifests, "ConfigMap")[service]["data"], **own}


def _template(manifest: Manifest) -> Manifest:
    spec = manifest.get("spec") or {}
    return (
        (spec.get("template") or spec.get("jobTargetRef", {}).get("template") or {}) if isinstance(spec, dict) else {}
    )
