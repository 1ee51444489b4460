"""The chart on a real node: hooks, probes, volumes, names, rights as kubelet, runc, kube-proxy have them; one run.

The tests share one release and go in the order of an operator's day: installed, asked, used, disturbed, uninstalled.
"""

from __future__ import annotations

import json
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.chart import CHART, VALUES
from deploy.conftest import require
from deploy.control_plane import Cluster, running_cluster
from deploy.images import THIRD_PARTY, kept
from deploy.node import NODE, Node, running_node, start_dns, what_is_missing, wire
from deploy.processes import start, stop
from deploy.tools import COMPONENTS, tools
from waiting import wait_until

from mendloop.cli.cluster import ClusterSilent, Release, examine_cluster
from mendloop.client import Client, Run
from mendloop.core.contracts import SERVICES

pytestmark = [pytest.mark.deploy, pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(3600)]
NAMESPACE, RELEASE = "loops", "r"
KINDS = (
    "pods,deployments,statefulsets,jobs,services,configmaps,serviceaccounts,secrets,poddisruptionbudgets,networkpolicies,"
    "persistentvolumeclaims"
)
CLAIMS = ("artifacts", "sealed", "kafka", "postgres")
RECIPE = Path(__file__).resolve().parents[2] / "services/mendloop/examples/scan/recipes/scan-data.yaml"
INSTALL_S, RUN_S = 900, 1800
IMAGE_PYTHON = (3, 11)
BORROWED = {
    "image": {"repository": "mendloop/gateway"},
    "env": [
        {"name": "OMP_NUM_THREADS", "value": "1"},
        {"name": "PYTHONPATH", "value": "/opt/mendloop/lib/python3.11/site-packages:/borrowed"},
    ],
    "extraVolumes": [{"name": "borrowed", "hostPath": {"path": sysconfig.get_path("purelib")}}],
    "extraVolumeMounts": [{"name": "borrowed", "mountPath": "/borrowed", "readOnly": True}],
}
"""A service whose image is not there runs in the gateway's, with the libraries of this machine (torch: gigabytes)."""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cluster, Node]]:
    """A control plane and one real node with a name service."""
    require("helm", "kwok", "etcd", "stages", *COMPONENTS)
    if missing := what_is_missing(tools()):
        pytest.skip(f"no node without {', '.join(missing)}; docs/deploy.md says what it needs")
    folder = tmp_path_factory.mktemp("node")
    with (
        wire() as joined,
        running_cluster(tools(), folder / "cluster", address=joined.host, nodes={}) as cluster,
        running_node(cluster, joined, folder / "node") as node,
    ):
        start_dns(cluster, node)
        yield cluster, node


@pytest.fixture(scope="module")
def release(machine: tuple[Cluster, Node]) -> Cluster:
    """The cluster with a release for trying, every pod ready."""
    cluster, node = machine
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    archives, missing = kept(SERVICES, version=version)
    if not {"gateway", *THIRD_PARTY}.isdisjoint(missing) or (missing and sys.version_info[:2] != IMAGE_PYTHON):
        pytest.skip(f"no images of {', '.join(missing)}; `python tests/deploy/images.py` makes them")
    node.load(*archives)
    borrowing = node.folder / "borrowing.yaml"
    borrowing.write_text(json.dumps({"services": dict.fromkeys(missing, BORROWED)}))
    cluster.kubectl("create", "namespace", NAMESPACE)
    for name in CLAIMS:
        cluster.kubectl("apply", "-f", "-", text=json.dumps(volume(name, node.folder)))
    values = ("-f", VALUES["dev"], "-f", Path(__file__).with_name("values-node.yaml"), "-f", borrowing)
    where = ("--namespace", NAMESPACE, "--wait", "--timeout", f"{INSTALL_S}s")
    try:
        cluster.helm("install", RELEASE, CHART, *values, *where)
        # Helm waits for replicas less maxUnavailable: of a service with one pod and maxSurge 0 it waits for none.
        cluster.kubectl("wait", "pods", "--all", *where[:2], "--for=condition=Ready", f"--timeout={INSTALL_S}s")
    except RuntimeError as error:
        raise AssertionError(f"{error}\n{story(cluster)}") from error
    return cluster


def volume(name: str, folder: Path) -> dict[str, Any]:
    """A volume in the node's folder, which kubelet hands to the pod's group."""
    path = folder / "volumes" / name
    path.mkdir(parents=True)
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE]}
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "by-hand",
        "local": {"path": str(path)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": f"pv-{name}"}, "spec": spec}


def story(cluster: Cluster) -> str:
    """Why pods are not ready: what a person would ask next."""
    words = [cluster.kubectl("get", "pods,pvc", "--namespace", NAMESPACE, "-o", "wide")]
    words.append(cluster.kubectl("get", "events", "--namespace", NAMESPACE, "--sort-by=.lastTimestamp")[-3000:])
    for pod in cluster.items("pods", namespace=NAMESPACE):
        name = pod["metadata"]["name"]
        try:
            words.append(f"{name}: {cluster.kubectl('logs', name, '--namespace', NAMESPACE, '--tail=15')}")
        except RuntimeError as error:
            words.append(f"{name}: {error}")
    return "\n".join(words)


def pod_of(cluster: Cluster, service: str) -> dict[str, Any]:
    """The service's pod that is not on its way out."""
    found = [
        pod
        for pod in cluster.items("pods", namespace=NAMESPACE)
        if pod["metadata"]["labels"].get("app.kubernetes.io/component") == service
        and "deletionTimestamp" not in pod["metadata"]
    ]
    assert len(found) == 1, [pod["metadata"]["name"] for pod in found]
    return found[0]


def exec_in(cluster: Cluster, service: str, *command: str) -> str:
    return cluster.kubectl("exec", f"deployment/{RELEASE}-mendloop-{service}", "--namespace", NAMESPACE, "--", *command)


def test_a_pod_gets_an_address_probes_a_log_and_is_reached_by_exec(machine: tuple[Cluster, Node]) -> None:
    cluster, _ = machine
    pod = cluster.items("pods", namespace="kube-system")[0]
    assert pod["spec"]["nodeName"] == NODE
    assert pod["status"]["podIP"].startswith("10.214.")
    assert all(status["ready"] for status in pod["status"]["containerStatuses"])
    of = ("deployment/dns", "--namespace", "kube-system")
    assert "CoreDNS-" in cluster.kubectl("logs", *of)
    assert "CoreDNS-" in cluster.kubectl("exec", *of, "--", "/bin/dns", "-version")


def test_services_run_as_nobody_with_a_root_that_they_cannot_write_to(release: Cluster) -> None:
    tries = (
        "import os, pathlib\n"
        "print(os.getuid(), os.getgid(), os.access('/work', os.W_OK), os.access('/tmp', os.W_OK))\n"
        "try: pathlib.Path('/opt/mendloop/x').touch()\n"
        "except OSError as error: print(error.strerror)\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapEff', 'NoNewPrivs'))])\n"
    )
    for service in SERVICES:
        said = exec_in(release, service, "python", "-c", tries).splitlines()
        assert said[0] == "10001 10001 True True", service
        assert said[1] in ("Read-only file system", "Permission denied"), service
        assert said[2] == "['0000000000000000', '1']", service


def test_hooks_ran_and_went(release: Cluster) -> None:
    assert not release.items("jobs", namespace=NAMESPACE)
    topics = exec_in(release, "controller", "python", "-m", "mendloop.bus.topics", "--missing")
    assert topics.split() == []


def test_helm_test_passes(release: Cluster) -> None:
    try:
        said = release.helm("test", RELEASE, "--namespace", NAMESPACE, "--timeout", "180s")
    except RuntimeError as error:
        where = ("--namespace", NAMESPACE)
        raise AssertionError(f"{error}\n{release.kubectl('logs', f'{RELEASE}-mendloop-test', *where)}") from error
    assert re.search(r"Phase:\s+Succeeded", said), said


def test_policies_let_through_what_services_need_and_nothing_else(release: Cluster) -> None:
    pods = {service: pod_of(release, service) for service in SERVICES}
    addresses = {service: pod["status"]["podIP"] for service, pod in pods.items()}
    ours = {service: f"{NAMESPACE}/{pod['metadata']['name']}" for service, pod in pods.items()}
    database, broker = (f"{RELEASE}-mendloop-{name}.{NAMESPACE}" for name in ("postgres", "kafka"))
    strangers = {name: stranger(release, namespace=name) for name in ("default", "monitoring")}
    open_ways = [
        *((ours[service], broker, 9092) for service in SERVICES),
        *((ours[service], database, 5432) for service in ("controller", "gateway")),
        (strangers["default"], f"{RELEASE}-mendloop-gateway.{NAMESPACE}", 80),
        *((strangers["monitoring"], address, 9090) for address in addresses.values()),
    ]
    shut_ways = [
        *((ours[service], database, 5432) for service in ("evaluator", "diagnostician", "data-generator", "trainer")),
        *((ours["evaluator"], addresses["gateway"], port) for port in (8080, 9090)),
        *((strangers["default"], address, 9090) for address in addresses.values()),
        *((source, host, port) for source in strangers.values() for host, port in ((broker, 9092), (database, 5432))),
    ]
    for way in open_ways:
        wait_until(lambda way=way: reaches(release, *way), deadline_s=60, every_s=1)  # a new pod is let through later
    assert [way for way in shut_ways if reaches(release, *way)] == []


def stranger(cluster: Cluster, *, namespace: str) -> str:
    """A pod of somebody else; its namespace and name."""
    image = pod_of(cluster, "gateway")["spec"]["containers"][0]["image"]
    if namespace != "default":
        cluster.kubectl("create", "namespace", namespace)
    where = ("--namespace", namespace)
    settings = (f"--image={image}", "--image-pull-policy=Never", "--command")
    cluster.kubectl("run", "stranger", *where, *settings, "--", "python", "-c", "import time; time.sleep(3600)")
    cluster.kubectl("wait", "pod/stranger", *where, "--for=condition=Ready", "--timeout=120s")
    return f"{namespace}/stranger"


def reaches(cluster: Cluster, source: str, host: str, port: int) -> bool:
    """Whether a pod (namespace/name) gets a connection."""
    namespace, name = source.split("/")
    tries = (
        "import socket\n"
        f"try: socket.create_connection(({host!r}, {port}), 3); print('open')\n"
        "except OSError: print('shut')\n"
    )
    return cluster.kubectl("exec", name, "--namespace", namespace, "--", "python", "-c", tries).strip() == "open"


def test_doctor_finds_nothing_wrong_and_asks_for_topics_inside(release: Cluster) -> None:
    def ask(arguments: Sequence[str]) -> str:
        try:
            return release.kubectl(*arguments)
        except RuntimeError as error:
            raise ClusterSilent(str(error)) from error

    findings = {found.what: found for found in examine_cluster(Release(RELEASE, NAMESPACE), ask=ask)}
    assert not [found for found in findings.values() if found.is_needed and not found.is_ok]
    assert re.fullmatch(r"all \d+ are there", findings["topics"].detail)


def test_a_run_is_promoted_though_its_trainer_is_deleted_in_the_middle(release: Cluster, tmp_path: Path) -> None:
    key = exec_in(release, "gateway", "mend", "keys", "create", "first", "--scope", "admin").strip()
    with forwarded(release, tmp_path / "forward.log") as url, Client(url, token=key) as client:
        run_id = client.start_run(RECIPE).run_id
        first = pod_of(release, "trainer")["metadata"]["name"]
        wait_until(lambda: trains(release, first) or over(client, run_id), deadline_s=RUN_S, every_s=1)
        release.kubectl("delete", "pod", first, "--namespace", NAMESPACE, "--wait=false")
        run = client.wait(run_id, timeout_s=RUN_S)
        second = pod_of(release, "trainer")["metadata"]["name"]
        assert second != first
        assert trains(release, second), "the second trainer took the training over"
        assert run.outcome == "promoted", f"{run.document}\n{story(release)}"


def trains(cluster: Cluster, pod: str) -> bool:
    return "training starts" in cluster.kubectl("logs", pod, "--namespace", NAMESPACE)


def over(client: Client, run_id: str) -> Run | None:
    run = client.get_run(run_id)
    return run if run.outcome else None


@contextmanager
def forwarded(cluster: Cluster, log: Path) -> Iterator[str]:
    """The gateway's URL on this machine, through `kubectl port-forward`."""
    where = ("--kubeconfig", str(cluster.kubeconfig), "--namespace", NAMESPACE)
    process = start(["kubectl", *where, "port-forward", f"service/{RELEASE}-mendloop-gateway", ":80"], log=log)
    try:
        found = wait_until(lambda: re.search(r"127\.0\.0\.1:\d+", log.read_text()), deadline_s=30)
        yield f"http://{found.group()}"
    finally:
        stop(process)


def test_uninstalling_leaves_nothing_of_the_release(release: Cluster) -> None:
    release.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "300s")

    def left() -> set[str]:
        found = {f"{item['kind']}/{item['metadata']['name']}" for item in release.items(KINDS, namespace=NAMESPACE)}
        return {name for name in found if RELEASE in name.split("/")[1].split("-")}

    wait_until(lambda: not left(), deadline_s=120)
