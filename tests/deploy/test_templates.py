"""What the chart promises beside safety and scaling, read off the manifests that the real Helm renders."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from deploy import regenerate
from deploy.chart import (
    CHART,
    NAMESPACE,
    RELEASE,
    VALUES,
    environment_of,
    helm,
    of_kind,
    pod_specs,
    rendered,
    rendered_text,
)
from deploy.services import settings_of
from deploy.tools import KUBERNETES

from mendloop.core.contracts import SERVICES

SEALED_READERS = {"evaluator", "gateway"}


@pytest.fixture(params=sorted(VALUES))
def values(request: pytest.FixtureRequest) -> str:
    """Each values file."""
    return request.param


def test_helm_lint_finds_nothing(values: str) -> None:
    assert "0 chart(s) failed" in helm("lint", CHART, "--strict", "--kube-version", KUBERNETES, "-f", VALUES[values])


def test_every_service_runs(values: str) -> None:
    manifests = rendered(values)
    running = {**of_kind(manifests, "Deployment"), **of_kind(manifests, "ScaledJob")}
    assert set(SERVICES) <= set(running)


def test_settings_of_the_manifests_are_settings_of_the_services(values: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for service in SERVICES:
        environment = environment_of(rendered(values), service)
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value if isinstance(value, str) else "postgresql://u@h/d")
            settings = settings_of(service).from_environment()
        assert settings.bus.startswith("kafka:")
        assert settings.bus_options["security_protocol"] in {"PLAINTEXT", "SASL_SSL"}


def test_kafka_client_takes_the_options_of_the_manifests() -> None:
    from mendloop.bus.kafka_client import Clients

    options = json.loads(environment_of(rendered("example"), "controller")["MENDLOOP_BUS_OPTIONS"])
    clients = Clients("127.0.0.1:1", options=options)
    assert (clients.prefix, clients.partition_count, clients.replication_factor) == ("team-a.", 16, 3)


def test_a_changed_setting_rolls_the_service_out_and_no_other() -> None:
    before, after = (
        pod_annotations("small", *more) for more in ((), ('services.evaluator.config={"MENDLOOP_LOG_LEVEL":"DEBUG"}',))
    )
    changed = {service for service in SERVICES if before[service] != after[service]}
    assert changed == {"evaluator"}


def test_a_new_version_of_the_chart_alone_restarts_no_pod() -> None:
    for name, manifest in of_kind(rendered("small"), "Deployment").items():
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(
            manifest["spec"]["template"]["metadata"]["labels"]
        ), name


def pod_annotations(values: str, *settings: str) -> dict[str, str]:
    return {
        name: manifest["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        for name, manifest in of_kind(rendered(values, *settings), "Deployment").items()
    }


def test_trainer_on_several_gpus_trains_in_as_many_processes() -> None:
    assert environment_of(rendered("example"), "trainer")["MENDLOOP_TRAINER_PROCESSES"] == "4"


def test_selectors_reach_pods_of_their_own_service_alone(values: str) -> None:
    for name, manifest in of_kind(rendered(values), "Deployment").items():
        chosen, labels = manifest["spec"]["selector"]["matchLabels"], manifest["spec"]["template"]["metadata"]["labels"]
        assert chosen["app.kubernetes.io/component"] == name
        assert chosen.items() <= labels.items()


def test_hooks_run_before_services_and_leave_nothing_when_they_succeed() -> None:
    jobs = of_kind(rendered("small"), "Job")
    assert set(jobs) == {"topics", "migrate-controller", "migrate-gateway"}
    for job in jobs.values():
        annotations = job["metadata"]["annotations"]
        assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert annotations["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"


def test_hooks_of_a_dev_release_wait_for_its_own_stores() -> None:
    assert {j["metadata"]["annotations"]["helm.sh/hook"] for j in of_kind(rendered("dev"), "Job").values()} == {
        "post-install,post-upgrade"
    }


def test_gateway_answers_under_the_names_of_its_ingress_alone() -> None:
    hosts = json.loads(environment_of(rendered("example"), "gateway")["MENDLOOP_ALLOWED_HOSTS"])
    assert hosts == [
        "mendloop.example",
        f"{RELEASE}-mendloop-gateway",
        f"{RELEASE}-mendloop-gateway.{NAMESPACE}",
        f"{RELEASE}-mendloop-gateway.{NAMESPACE}.svc",
    ]


def test_image_is_named_by_digest_where_one_is_given() -> None:
    digest = "sha256:" + "0" * 64
    manifests = rendered("small", json_setting("services.evaluator.image", {"registry": "reg:5000", "digest": digest}))
    image = pod_specs(manifests)[f"Deployment/{RELEASE}-mendloop-evaluator"]["containers"][0]["image"]
    assert image == f"reg:5000/mendloop/evaluator@{digest}"


def json_setting(path: str, value: object) -> str:
    return f"{path}={json.dumps(value)}"


def test_files_of_alerts_and_dashboards_become_rules_and_config_maps() -> None:
    manifests = rendered("example")
    alerts = {path.stem for path in (CHART / "files" / "alerts").glob("*.yaml")}
    dashboards = {path.name for path in (CHART / "files" / "dashboards").glob("*.json")}
    assert set(of_kind(manifests, "PrometheusRule")) == alerts
    config_maps = of_kind(manifests, "ConfigMap").items()
    assert {next(iter(m["data"])) for name, m in config_maps if name.startswith("dashboard-")} == dashboards


def test_every_value_is_commented_or_stands_under_a_comment() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        key = re.match(r"^(  )?([A-Za-z-]+):", line)
        if key is None:
            continue
        block_start = next((i for i in range(number, -1, -1) if not lines[i].strip()), -1)
        above = [entry for entry in lines[block_start + 1 : number] if entry.lstrip().startswith("#")]
        assert above, f"line {number + 1}: {line!r} has no comment in its block"


def test_chart_knows_the_topics_and_settings_of_the_code() -> None:
    advice = "the chart is behind the code: run `make chart`"
    assert regenerate.CONTRACTS.read_text() == regenerate.contracts(), advice
    assert regenerate.SCHEMA.read_text() == regenerate.schema(), advice


def test_rendering_twice_gives_the_same_bytes(values: str) -> None:
    text = rendered_text(values)
    rendered_text.cache_clear()
    assert rendered_text(values) == text


def test_chart_has_no_file_that_only_this_machine_has() -> None:
    assert not [path for path in Path(CHART).rglob("*") if path.is_symlink()]
