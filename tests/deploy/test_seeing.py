"""What the chart gives to Prometheus, to Alertmanager and to a receiver of traces."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.chart import CHART, ROOT, Refused, environment_of, of_kind, rendered
from monitoring import require_monitoring

from mendloop.core.contracts import SERVICES

RULES = CHART / "files" / "alerts" / "mendloop.yaml"
BASE = "https://git.example/team/mendloop/blob/main"
ENDPOINT = "http://otel-collector.monitoring:4318"
ON = "monitoring.rules.enabled=true"


def rule_document(*settings: str) -> dict[str, Any]:
    """The PrometheusRule."""
    return of_kind(rendered("small", ON, *settings), "PrometheusRule")["mendloop"]


def alerts_of(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Alerts by name."""
    return {rule["alert"]: rule for group in spec["groups"] for rule in group["rules"] if "alert" in rule}


def test_without_further_values_the_rules_are_the_files() -> None:
    assert rule_document()["spec"] == yaml.safe_load(RULES.read_text())


@pytest.mark.parametrize("base", [BASE, f"{BASE}/"])
def test_an_address_before_the_runbooks_makes_links_of_their_paths_and_changes_nothing_else(base: str) -> None:
    plain = alerts_of(rule_document()["spec"])
    linked = alerts_of(rule_document(f"monitoring.rules.runbookBase={json.dumps(base)}")["spec"])
    for name, rule in linked.items():
        url = rule["annotations"]["runbook_url"]
        assert re.fullmatch(rf"{BASE}/docs/runbooks/[a-z-]+\.md", url)
        assert (ROOT / url.removeprefix(f"{BASE}/")).is_file()
        path = plain[name]["annotations"]["runbook_url"]
        assert rule == {**plain[name], "annotations": {**plain[name]["annotations"], "runbook_url": f"{BASE}/{path}"}}


def test_rules_go_where_a_prometheus_looks_and_alerts_where_they_are_routed(tmp_path: Path) -> None:
    settings = ('namespace="monitoring"', 'labels={"release":"prometheus"}', 'alertLabels={"team":"training"}')
    manifest = rule_document(*(f"monitoring.rules.{setting}" for setting in settings))
    assert manifest["metadata"]["namespace"] == "monitoring"
    assert manifest["metadata"]["labels"]["release"] == "prometheus"
    for rule in alerts_of(manifest["spec"]).values():
        assert rule["labels"]["team"] == "training"
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_promtool_takes_the_rules_and_a_template_of_alertmanager_shows_their_links(tmp_path: Path) -> None:
    require_monitoring()
    spec = rule_document(f"monitoring.rules.runbookBase={json.dumps(BASE)}")["spec"]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(spec))
    run("promtool", "check", "rules", str(path))
    annotations = alerts_of(spec)["MendloopRunStuck"]["annotations"]
    data = tmp_path / "data.json"
    data.write_text(json.dumps({"CommonAnnotations": annotations, "Alerts": []}))
    template = tmp_path / "ours.tmpl"
    template.write_text('{{ define "link" }}<{{ .CommonAnnotations.runbook_url }}|runbook>{{ end }}')
    shown = run(
        *("amtool", "template", "render", f"--template.glob={template}"),
        *(f"--template.data={data}", '--template.text={{ template "link" . }}'),
    )
    assert shown.strip() == f"<{BASE}/docs/runbooks/run-stuck.md|runbook>"


def run(*command: str) -> str:
    """What a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_otlp_endpoint_is_known_to_every_service_and_let_out() -> None:
    on, off = rendered("small", f"tracing.otlpEndpoint={json.dumps(ENDPOINT)}"), rendered("small")
    for service in SERVICES:
        assert environment_of(on, service)["MENDLOOP_OTLP_ENDPOINT"] == ENDPOINT
        assert "MENDLOOP_OTLP_ENDPOINT" not in environment_of(off, service)
    assert (4318 in ports_out(on), 4318 in ports_out(off)) == (True, False)


def ports_out(manifests: list[dict[str, Any]]) -> set[int]:
    """Ports that every pod may reach elsewhere."""
    common = of_kind(manifests, "NetworkPolicy")["common"]["spec"]
    return {port["port"] for rule in common["egress"] for port in rule["ports"]}


def test_another_port_of_the_receiver_is_let_out_where_it_is_named() -> None:
    endpoint = 'tracing.otlpEndpoint="https://otel.example/prefix"'
    with pytest.raises(Refused, match=r"has port 443, which networkPolicy\.otlp\.ports does not let out"):
        rendered("small", endpoint)
    without_policies = rendered("small", endpoint, "networkPolicy.enabled=false")
    assert not of_kind(without_policies, "NetworkPolicy")
    assert 443 in ports_out(rendered("small", endpoint, "networkPolicy.otlp.ports=[443]"))


@pytest.mark.parametrize(
    "setting",
    [
        'tracing.otlpEndpoint="otel:4318"',
        'tracing.otlpEndpoint="grpc://otel:4317"',
        'tracing.otlpEndpoint="http://user:password@otel:4318"',
        'tracing.otlpEndpoint="http://otel:port"',
        'tracing.otlpEndpoint="http://otel:4318 "',
        'tracing.endpoint="http://otel:4318"',
        'config={"MENDLOOP_OTLP_ENDPOINT":"http://otel:4318"}',
        'monitoring.rules.runbookBase="git.example/docs"',
        'monitoring.rules.runbookBase="https://git.example/{{ evil }}"',
        'monitoring.rules.namespace="No Namespace"',
        'monitoring.rules.alertLabels={"severity":"none"}',
        'monitoring.rules.alertLabels={"my-team":"training"}',
    ],
)
def test_schema_refuses(setting: str) -> None:
    with pytest.raises(Refused, match="values don't meet the specifications of the schema"):
        rendered("small", setting)


def test_every_image_has_what_sends_traces() -> None:
    images = json.loads((ROOT / "deploy" / "docker" / "images.json").read_text())["services"]
    assert all("otel" in image["extras"].split(",") for image in images.values())
