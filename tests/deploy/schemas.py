"""JSON schemas for kubeconform, which would fetch them from the network: from Kubernetes' OpenAPI document and CRDs.

Strict: a field that a schema does not know is refused, as the API server's server-side validation does.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from deploy.tools import Tools

LOCATION = "{{ .ResourceKind }}{{ .KindSuffix }}.json"
Schema = dict[str, Any]


class Loader(yaml.CSafeLoader):
    """YAML in which `=` is a text: CRDs of the Prometheus operator list it among the operators of a matcher."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def write_schemas(tools: Tools, folder: Path) -> str:
    """One file a kind; returns kubeconform's -schema-location."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_built_in(tools, folder)
    for path in sorted(tools.crds.rglob("*.yaml")):
        for document in yaml.load_all(path.read_text(), Loader):
            if document and document.get("kind") == "CustomResourceDefinition":
                _write_custom(document["spec"], folder)
    return f"{folder}/{LOCATION}"


def _write_built_in(tools: Tools, folder: Path) -> None:
    definitions: dict[str, Schema] = json.loads(tools.swagger.read_text())["definitions"]
    for definition in definitions.values():
        _close(definition)
    # Both are written as numbers or texts.
    definitions["io.k8s.apimachinery.pkg.util.intstr.IntOrString"] = {"type": ["integer", "string"]}
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = {"type": ["number", "string"]}
    for name, definition in definitions.items():
        for kind in definition.get("x-kubernetes-group-version-kind", ()):
            document = {"$ref": f"#/definitions/{name}", "definitions": _reached(name, definitions)}
            _file(folder, kind["kind"], kind["group"], kind["version"]).write_text(json.dumps(document))


def _reached(name: str, definitions: dict[str, Schema]) -> dict[str, Schema]:
    """A definition and all that it refers to: the whole document a kind would be 4 MB."""
    found: dict[str, Schema] = {}
    todo = [name]
    while todo:
        at = todo.pop()
        if at not in found:
            found[at] = definitions[at]
            todo += [part.split('"', 1)[0] for part in json.dumps(definitions[at]).split('"#/definitions/')[1:]]
    return found


def _write_custom(spec: Schema, folder: Path) -> None:
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        _close(schema)
        _file(folder, spec["names"]["kind"], spec["group"], version["name"]).write_text(json.dumps(schema))


def _file(folder: Path, kind: str, group: str, version: str) -> Path:
    suffix = f"-{group.split('.')[0]}-{version}" if group else f"-{version}"
    return folder / f"{kind.lower()}{suffix}.json"


def _close(schema: Any) -> None:
    """Refuse unknown fields wherever fields are listed, and read Kubernetes' own notes."""
    if isinstance(schema, list):
        for entry in schema:
            _close(entry)
    if not isinstance(schema, dict):
        return
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("anyOf", None)
        schema["type"] = ["integer", "string"]
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and not is_open:
        schema["additionalProperties"] = False
    for entry in schema.values():
        _close(entry)
