"""The chart on a real API server: installed, upgraded, rolled back, uninstalled; operators' objects against their CRDs.

Pods are kwok's: they become Ready and hooks complete, but nothing runs in them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from deploy.chart import CHART, VALUES, rendered
from deploy.conftest import require
from deploy.control_plane import Cluster, apply_crds, running_cluster
from deploy.tools import COMPONENTS, CRDS, tools
from releases import THIS, previous
from waiting import wait_until

from mendloop.cli.cluster import ClusterSilent, Release, examine_cluster
from mendloop.core.contracts import SERVICES

pytestmark = [pytest.mark.deploy, pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(600)]
NAMESPACE, RELEASE = "loops", "r"
KINDS = (
    "pods,deployments,statefulsets,jobs,services,configmaps,serviceaccounts,secrets,poddisruptionbudgets,networkpolicies,"
    "ingresses,horizontalpodautoscalers,persistentvolumeclaims,scaledobjects,scaledjobs,triggerauthentications,"
    "podmonitors,servicemonitors,prometheusrules,httproutes,trainjobs"
)
OPERATED = (
    *("ScaledObject", "ScaledJob", "TriggerAuthentication", "PodMonitor", "ServiceMonitor"),
    *("PrometheusRule", "TrainJob", "HTTPRoute"),
)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane with CRDs, a namespace and the secrets that the values files name."""
    require("helm", "kwok", "etcd", "stages", *COMPONENTS, *(f"CRDs of {name}" for name in CRDS))
    with running_cluster(tools(), tmp_path_factory.mktemp("cluster")) as running:
        apply_crds(running)
        running.kubectl("create", "namespace", NAMESPACE)
        wait_until(lambda: running.items("serviceaccounts", namespace=NAMESPACE), deadline_s=60)
        for name in ("sql", "s3", "s3-sealed", "mendloop-kafka", "mendloop-sql", "mendloop-s3", "mendloop-s3-sealed"):
            running.kubectl("create", "secret", "generic", name, "--namespace", NAMESPACE, "--from-literal=key=value")
        running.kubectl("create", "priorityclass", "mendloop-interactive", "--value=1000")
        yield running


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster without a release, before and after."""
    yield cluster
    subprocess.run(
        [tools().binary("helm"), "uninstall", RELEASE, "--namespace", NAMESPACE, "--ignore-not-found", "--wait"],
        env=cluster.environment(),
        check=False,
        capture_output=True,
    )


def names(cluster: Cluster) -> set[str]:
    """Everything in the namespace, by kind and name."""
    return {f"{item['kind']}/{item['metadata']['name']}" for item in cluster.items(KINDS, namespace=NAMESPACE)}


def put(cluster: Cluster, verb: str, *settings: str, values: str = "small", chart: Path = CHART) -> str:
    further = [word for setting in settings for word in ("--set-json", setting)]
    where = ("--namespace", NAMESPACE, "--wait", "--timeout", "180s")
    return cluster.helm(verb, RELEASE, chart, "-f", VALUES[values], *where, *further)


def pods(cluster: Cluster, service: str = "") -> list[dict[str, Any]]:
    """Pods that stay: those of hooks and those that go are left out."""
    found = [p for p in cluster.items("pods", namespace=NAMESPACE) if "deletionTimestamp" not in p["metadata"]]
    of = {p["metadata"]["name"]: p["metadata"]["labels"].get("app.kubernetes.io/component") for p in found}
    return [p for p in found if of[p["metadata"]["name"]] != "hook" and service in ("", of[p["metadata"]["name"]])]


def is_ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def test_release_is_installed_upgraded_rolled_back_and_gone(empty: Cluster) -> None:
    before = names(empty)

    notes = put(empty, "install")
    assert "helm test r --namespace loops" in notes
    running = pods(empty)
    assert {pod["metadata"]["labels"]["app.kubernetes.io/component"] for pod in running} == set(SERVICES)
    assert all(is_ready(pod) for pod in running)
    assert not empty.items("jobs", namespace=NAMESPACE), "hooks that succeeded are deleted"
    first = {service: {pod["metadata"]["name"] for pod in pods(empty, service)} for service in SERVICES}

    put(empty, "upgrade", 'services.controller.config={"MENDLOOP_LOG_LEVEL":"DEBUG"}')
    second = {service: settled(empty, service) for service in SERVICES}
    assert {service for service in SERVICES if first[service] != second[service]} == {"controller"}
    assert setting(empty, "controller", "MENDLOOP_LOG_LEVEL") == "DEBUG"

    empty.helm("rollback", RELEASE, "1", "--namespace", NAMESPACE, "--wait", "--timeout", "180s")
    third = settled(empty, "controller")
    assert third != second["controller"]
    assert setting(empty, "controller", "MENDLOOP_LOG_LEVEL") is None

    empty.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait")
    wait_until(lambda: names(empty) == before, deadline_s=60)


def settled(cluster: Cluster, service: str) -> set[str]:
    """The names of a service's pods, once its deployment has as many as it wants and no other is left."""

    def found() -> set[str]:
        living = pods(cluster, service)
        return {pod["metadata"]["name"] for pod in living} if len(living) == 1 and is_ready(living[0]) else set()

    return wait_until(found, deadline_s=60)


def setting(cluster: Cluster, service: str, name: str) -> str | None:
    text = cluster.kubectl("get", "configmap", f"{RELEASE}-mendloop-{service}", "--namespace", NAMESPACE, "-o", "json")
    return json.loads(text)["data"].get(name)


def test_release_before_is_upgraded_to_this_one_and_back(empty: Cluster, tmp_path: Path) -> None:
    bare, older = names(empty), previous(tmp_path / "before")
    put(empty, "install", chart=older.chart)
    assert versions(empty) == dict.fromkeys(SERVICES, older.version)
    of_older = objects(empty, bare)
    assert of_older == described(older.chart)

    put(empty, "upgrade")
    assert versions(empty) == dict.fromkeys(SERVICES, THIS.version)
    assert objects(empty, bare) == described(CHART), "the upgrade left an object over or forgot one"

    empty.helm("rollback", RELEASE, "1", "--namespace", NAMESPACE, "--wait", "--timeout", "180s")
    assert versions(empty) == dict.fromkeys(SERVICES, older.version)
    assert objects(empty, bare) == of_older


def versions(cluster: Cluster) -> dict[str, str]:
    """The tag of each service's image, once a service has one ready pod."""
    for service in SERVICES:
        settled(cluster, service)
    return {
        pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["spec"]["containers"][0]["image"].split(":")[1]
        for pod in pods(cluster)
    }


def objects(cluster: Cluster, bare: set[str]) -> set[str]:
    """What a release brought beside pods and Helm's own notes."""
    return {name for name in names(cluster) - bare if name.split("/")[0] not in ("Pod", "Secret")}


def described(chart: Path) -> set[str]:
    """What a chart describes, without hooks."""
    return {
        f"{manifest['kind']}/{manifest['metadata']['name']}"
        for manifest in rendered("small", chart=chart)
        if "helm.sh/hook" not in manifest["metadata"].get("annotations", {})
    }


def test_pods_with_gpus_are_placed_where_gpus_are(empty: Cluster) -> None:
    put(empty, "install")
    placed = {pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod["spec"]["nodeName"] for pod in pods(empty)}
    assert {placed[service] for service in ("evaluator", "diagnostician", "trainer")} == {"gpu-1"}


def test_a_release_for_trying_brings_its_own_stores(empty: Cluster) -> None:
    for number in range(4):
        empty.kubectl("apply", "-f", "-", text=json.dumps(volume(number)))
    put(empty, "install", 'dev.storageClassName="by-hand"', values="dev")
    running = pods(empty)
    assert all(is_ready(pod) for pod in running)
    assert {"r-mendloop-kafka-0", "r-mendloop-postgres-0"} <= {pod["metadata"]["name"] for pod in running}
    assert all(
        claim["status"]["phase"] == "Bound" for claim in empty.items("persistentvolumeclaims", namespace=NAMESPACE)
    )


def volume(number: int) -> dict[str, Any]:
    spec = {
        "capacity": {"storage": "10Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "by-hand",
        "hostPath": {"path": f"/volumes/{number}"},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"pv-{number}"}, "spec": spec}


def test_a_production_release_is_installed_with_all_operators(empty: Cluster) -> None:
    # The claim with the teacher's models is the operator's; without it its pod would wait.
    put(empty, "install", 'teacher.modelsClaim=""', values="example")
    present = {name.split("/")[0] for name in names(empty)}
    assert {"ScaledObject", "ScaledJob", "TriggerAuthentication", "HorizontalPodAutoscaler"} <= present
    assert {"HTTPRoute", "Ingress", "PodMonitor", "ServiceMonitor", "TrainJob"} <= present


def test_doctor_says_what_the_release_lacks(empty: Cluster) -> None:
    def ask(arguments: Sequence[str]) -> str:
        try:
            return empty.kubectl(*arguments)
        except RuntimeError as error:
            raise ClusterSilent(str(error)) from error

    put(empty, "install")
    findings = {finding.what: finding for finding in examine_cluster(Release(RELEASE, NAMESPACE), ask=ask)}
    assert findings["cluster"].is_ok
    assert findings["KEDA (services scale by lag)"].is_ok
    assert findings["nvidia.com/gpu"].is_ok
    assert findings["secret sql"].detail == "misses controller-url, gateway-url"
    assert not [what for what in findings if what.startswith("pod ")]


@pytest.mark.parametrize("kind", OPERATED)
def test_api_server_takes_the_objects_of_operators_and_refuses_a_misspelt_field(cluster: Cluster, kind: str) -> None:
    manifest = next(m for m in rendered("example") if m["kind"] == kind)
    dry = ("apply", "--dry-run=server", "--validate=strict", "--namespace", NAMESPACE, "-f", "-")
    assert "(server dry run)" in cluster.kubectl(*dry, text=json.dumps(manifest))
    misspelt = {**manifest, "spec": {**manifest["spec"], "polingInterval": 3}}
    with pytest.raises(RuntimeError, match="polingInterval"):
        cluster.kubectl(*dry, text=json.dumps(misspelt))
