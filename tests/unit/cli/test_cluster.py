"""The doctor of a cluster says what is missing and what to do, from what kubectl answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from mendloop.cli.cluster import OPERATORS, ClusterSilent, Release, ask_kubectl, examine_cluster
from mendloop.cli.doctor import Finding

RELEASE = Release("r", "loops")


class FakeCluster:
    """Answers like kubectl. What is not there is refused as kubectl refuses it."""

    def __init__(self) -> None:
        self.crds = set(OPERATORS)
        self.secrets = {"sql": "controller-url\ngateway-url\n"}
        self.gpus = "8"
        self.missing_topics = ""
        self.pods = [pod("controller")]
        self.deployments = [deployment("controller"), deployment("evaluator", gpus=2)]
        self.asked: list[str] = []

    def __call__(self, arguments: Sequence[str]) -> str:
        words = " ".join(arguments)
        self.asked.append(words)
        if words == "config current-context":
            return "lab\n"
        if words == "get --raw /readyz":
            return "ok"
        if words.startswith("get crd"):
            return self._known(arguments[2], self.crds)
        if words.startswith("get secret"):
            self._known(arguments[2], self.secrets)
            return self.secrets[arguments[2]]
        if words.startswith("exec"):
            return self.missing_topics
        return json.dumps({"items": self._items(arguments[1])})

    def _known(self, name: str, known: Any) -> str:
        if name not in known:
            raise ClusterSilent(f'Error from server (NotFound): "{name}" not found')
        return name

    def _items(self, kind: str) -> list[Any]:
        node = {"status": {"allocatable": {"nvidia.com/gpu": self.gpus}}}
        return {"pods": self.pods, "deployments": self.deployments, "nodes": [node]}.get(kind, [])


def spec(service: str, *, gpus: int = 0) -> dict[str, Any]:
    reference = {"secretKeyRef": {"name": "sql", "key": "controller-url"}}
    limits = {"memory": "1Gi", **({"nvidia.com/gpu": gpus} if gpus else {})}
    env = [{"name": "MENDLOOP_DATABASE_URL", "valueFrom": reference}] if service == "controller" else []
    return {"containers": [{"name": service, "resources": {"limits": limits}, "env": env}]}


def deployment(service: str, *, gpus: int = 0) -> dict[str, Any]:
    return {"spec": {"template": {"spec": spec(service, gpus=gpus)}}}


def pod(service: str, *, ready: bool = True, waiting: dict[str, str] | None = None) -> dict[str, Any]:
    status = {
        "phase": "Running" if ready else "Pending",
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "containerStatuses": [{"state": {"waiting": waiting} if waiting else {}}],
    }
    metadata = {"name": f"r-{service}-0", "labels": {"app.kubernetes.io/component": service}}
    return {"metadata": metadata, "spec": spec(service), "status": status}


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def faults(cluster: FakeCluster) -> dict[str, Finding]:
    return {finding.what: finding for finding in examine_cluster(RELEASE, ask=cluster) if not finding.is_ok}


def test_a_cluster_that_has_everything_has_no_fault(cluster: FakeCluster) -> None:
    assert faults(cluster) == {}


def test_a_silent_cluster_is_the_only_finding() -> None:
    def silent(arguments: Sequence[str]) -> str:
        raise ClusterSilent("error: current-context is not set")

    assert [finding.what for finding in examine_cluster(RELEASE, ask=silent)] == ["cluster"]


def test_a_missing_operator_is_optional_and_names_the_way_without(cluster: FakeCluster) -> None:
    cluster.crds.remove("scaledobjects.keda.sh")
    fault = faults(cluster)["KEDA (services scale by lag)"]
    assert not fault.is_needed
    assert "scaling.by: hpa" in fault.advice


def test_a_gpu_that_no_node_has_is_told_with_both_counts(cluster: FakeCluster) -> None:
    cluster.gpus = "1"
    assert "needs 2; the largest of 1 node(s) has 1" in faults(cluster)["nvidia.com/gpu"].detail


def test_a_missing_secret_is_told_with_the_command_that_makes_it(cluster: FakeCluster) -> None:
    cluster.secrets = {}
    assert "kubectl create secret generic sql --namespace loops --from-literal=controller-url=" in (
        faults(cluster)["secret sql"].advice
    )


def test_a_missing_key_is_told_by_name(cluster: FakeCluster) -> None:
    cluster.secrets = {"sql": "gateway-url\n"}
    assert faults(cluster)["secret sql"].detail == "misses controller-url"


def test_values_of_secrets_are_never_asked_for(cluster: FakeCluster) -> None:
    faults(cluster)
    asked = [words for words in cluster.asked if words.startswith("get secret")]
    assert asked
    assert all("go-template={{range $key, $value := .data}}{{$key}}" in words for words in asked)


def test_missing_topics_are_counted_from_inside_the_cluster(cluster: FakeCluster) -> None:
    cluster.missing_topics = "mendloop.eval-failed.v1\nmendloop.eval-completed.v1\n"
    assert faults(cluster)["topics"].detail.startswith("2 of ")


def test_a_pod_that_cannot_start_gives_its_reason(cluster: FakeCluster) -> None:
    cluster.pods.append(pod("gateway", ready=False, waiting={"reason": "ImagePullBackOff", "message": "no such image"}))
    assert faults(cluster)["pod r-gateway-0"].detail == "ImagePullBackOff: no such image"


def test_a_release_that_is_not_there_is_told_with_its_namespace(cluster: FakeCluster) -> None:
    cluster.pods, cluster.deployments = [], []
    assert "r in namespace loops" in faults(cluster)["release"].detail


def test_kubectl_that_is_not_installed_is_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ClusterSilent, match="kubectl is not on the PATH"):
        ask_kubectl(["version"])
