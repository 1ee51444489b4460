"""KEDA's own operator and metrics adapter, run as processes beside the test control plane.

They are the programs of KEDA's module; only their places differ from a cluster's: loopback instead of pods, the test's
administrator instead of service accounts, certificates made here instead of KEDA's rotation.
"""

from __future__ import annotations

import base64
import contextlib
import json
import urllib.request
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path

from certificates import Pair, authority, issued
from deploy.control_plane import Cluster
from deploy.processes import await_up, start, stop
from ports import free_port

NAMESPACE, SERVICE = "keda", "keda-metrics-apiserver"
METRICS_API = "external.metrics.k8s.io"
PLACE = {"POD_NAMESPACE": NAMESPACE, "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE, "WATCH_NAMESPACE": ""}
"""What a pod would know; an empty WATCH_NAMESPACE is every namespace."""


@contextlib.contextmanager
def running_keda(cluster: Cluster, folder: Path) -> Iterator[None]:
    """KEDA at work on every namespace while the block runs. The cluster has KEDA's CRDs."""
    # The file names are those that KEDA looks for: ca.crt, tls.crt, tls.key.
    ca = authority(folder, "keda")
    tls = issued(folder, "tls", by=ca, subject="keda", hosts=f"IP:127.0.0.1,DNS:{SERVICE}.{NAMESPACE}.svc")
    exchange, secure, health = f"127.0.0.1:{free_port()}", free_port(), f"127.0.0.1:{free_port()}"
    cluster.kubectl("create", "namespace", NAMESPACE)
    commands = {
        "keda-operator": _operator(folder, exchange=exchange, health=health),
        "keda-adapter": _adapter(cluster, folder, tls=tls, exchange=exchange, port=secure),
    }
    with contextlib.ExitStack() as processes:
        for name, arguments in commands.items():
            command = [str(cluster.tools.binary(name)), *arguments]
            environment = {**cluster.environment(), **PLACE}
            processes.callback(stop, start(command, log=folder / f"{name}.log", environment=environment))
        await_up(lambda: _is_healthy(health), log=folder / "keda-operator.log")
        cluster.kubectl("apply", "--validate=false", "-f", "-", text=json.dumps(_registration(ca, port=secure)))
        await_up(lambda: _is_registered(cluster), log=folder / "keda-adapter.log")
        yield


def _operator(folder: Path, *, exchange: str, health: str) -> Sequence[str]:
    return (
        *("--leader-elect=false", "--metrics-bind-address=0", f"--health-probe-bind-address={health}"),
        *(f"--metrics-service-bind-address={exchange}", f"--cert-dir={folder}"),
        "--zap-log-level=debug",
    )


def _adapter(cluster: Cluster, folder: Path, *, tls: Pair, exchange: str, port: int) -> Sequence[str]:
    kubeconfig = cluster.kubeconfig
    return (
        *("--bind-address=127.0.0.1", f"--secure-port={port}", f"--cert-dir={folder}"),
        *(f"--tls-cert-file={tls.certificate}", f"--tls-private-key-file={tls.key}"),
        f"--client-ca-file={folder / 'ca.crt'}",
        *(f"--authentication-kubeconfig={kubeconfig}", f"--authorization-kubeconfig={kubeconfig}"),
        *(f"--kubeconfig={kubeconfig}", f"--lister-kubeconfig={kubeconfig}"),
        f"--metrics-service-address={exchange}",
        "--port=0",  # its own metrics, on any free port; they cannot be switched off
    )


def _registration(ca: Pair, *, port: int) -> dict[str, object]:
    """The adapter as the API server's source of external metrics. Endpoints may not lie on loopback; a name may."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE},
        "spec": {"type": "ExternalName", "externalName": "127.0.0.1"},
    }
    registration = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1beta1.{METRICS_API}"},
        "spec": {
            "service": {"name": SERVICE, "namespace": NAMESPACE, "port": port},
            "group": METRICS_API,
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "caBundle": base64.b64encode(ca.certificate.read_bytes()).decode(),
        },
    }
    return {"apiVersion": "v1", "kind": "List", "items": [service, registration]}


def _is_registered(cluster: Cluster) -> bool:
    return bool(json.loads(cluster.kubectl("get", "--raw", f"/apis/{METRICS_API}/v1beta1"))["groupVersion"])


def _is_healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}/readyz", timeout=5) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False
