"""A real Kubernetes control plane on this machine: etcd, API server, controllers, scheduler; nodes and pods are kwok's.

kwok plays the kubelet of its nodes: they are ready, pods become Ready, pods of Jobs complete. Nothing runs in them; a
node that runs pods is `node.py`'s.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from certificates import authority, issued, openssl
from deploy.processes import await_up, start, stop
from deploy.tools import CRDS, Tools
from ports import free_port

WORKING = "mendloop.test/working"
"""Annotation of a pod that works on: its Job goes on until the annotation is taken away."""
SERVICE_NETWORK = "10.0.0.0/24"
NODES = {"cpu-1": {}, "gpu-1": {"nvidia.com/gpu": "8", "nvidia.com/mig-2g.20gb": "2"}}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running control plane."""

    kubeconfig: Path
    tools: Tools

    @property
    def kubelet_client(self) -> Path:
        """The key with which the API server shows itself to a kubelet; its certificate lies beside it as .crt."""
        return self.kubeconfig.parent / "kubelet-client.key"

    def kubectl(self, *arguments: str | Path, text: str = "") -> str:
        """What kubectl prints. Raises CalledProcessError with its error output in the message."""
        return self._run("kubectl", *arguments, text=text)

    def helm(self, *arguments: str | Path) -> str:
        """What Helm prints. Raises CalledProcessError with its error output in the message."""
        return self._run(str(self.tools.binary("helm")), *arguments)

    def items(self, kinds: str, *, namespace: str = "") -> list[dict[str, Any]]:
        """Objects of the kinds, in one namespace or in all."""
        where = ("--namespace", namespace) if namespace else ("--all-namespaces",)
        return list(json.loads(self.kubectl("get", kinds, *where, "-o", "json"))["items"])

    def environment(self) -> dict[str, str]:
        """An environment in which kubectl and Helm find this cluster and no other."""
        return {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "HELM_CACHE_HOME": str(self.kubeconfig.parent / "helm"),
        }

    def _run(self, program: str, *arguments: str | Path, text: str = "") -> str:
        command = [program, *map(str, arguments)]
        done = subprocess.run(
            command, input=text or None, capture_output=True, text=True, env=self.environment(), check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout


@contextlib.contextmanager
def running_cluster(
    tools: Tools, folder: Path, *, address: str = "127.0.0.1", nodes: Mapping[str, dict[str, str]] = NODES
) -> Iterator[Cluster]:
    """A control plane with kwok's nodes (two, one of them with eight GPUs) while the block runs."""
    token, server = secrets.token_hex(16), f"{address}:{free_port(address)}"
    cluster = Cluster(_write_kubeconfig(folder, token=token, server=server), tools)
    with contextlib.ExitStack() as processes:
        for name, arguments in _commands(cluster, token=token, server=server).items():
            process = start([str(tools.binary(name)), *arguments], log=folder / f"{name}.log")
            processes.callback(stop, process)
            if name == "kube-apiserver":
                await_up(lambda: "ok" in cluster.kubectl("get", "--raw", "/readyz"), log=folder / f"{name}.log")
        for name, extended in nodes.items():
            cluster.kubectl("apply", "-f", "-", text=json.dumps(_node(name, extended)))
        await_up(lambda: len(_ready_nodes(cluster)) == len(nodes), log=folder / "kwok.log")
        yield cluster


def apply_crds(cluster: Cluster, *projects: str) -> None:
    """The CRDs of these projects, or of all (CRDS), as their modules have them."""
    for project in projects or CRDS:
        folder = cluster.tools.crds / project
        files = [p for p in sorted(folder.glob("*.yaml")) if p.name != "kustomization.yaml"]
        cluster.kubectl("apply", "--server-side", *[word for path in files for word in ("-f", path)])
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")


def _commands(cluster: Cluster, *, token: str, server: str) -> dict[str, Sequence[str]]:
    """The command lines in the order in which they start."""
    folder = cluster.kubeconfig.parent
    address, port = server.rsplit(":", 1)
    etcd, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    tokens, key, public = folder / "tokens.csv", folder / "account.key", folder / "account.pub"
    tokens.write_text(f'{token},admin,admin,"system:masters"\n')
    openssl("genrsa", "-out", key, "2048")
    openssl("rsa", "-in", key, "-pubout", "-out", public)
    client = cluster.kubelet_client
    certificate = client.with_suffix(".crt")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=api", "-keyout", client, "-out", certificate)
    stages = folder / "stages.yaml"
    stages.write_text(_stages(cluster.tools.stages))
    kubeconfig = str(folder / "kubeconfig")
    return {
        "etcd": (
            *(f"--data-dir={folder / 'etcd'}", f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}"),
            *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
            f"--initial-cluster=default={peer}",
        ),
        "kube-apiserver": (
            *(f"--etcd-servers={etcd}", f"--secure-port={port}", f"--bind-address={address}"),
            *(f"--cert-dir={folder / 'certificates'}", f"--token-auth-file={tokens}"),
            *_aggregation(folder / "aggregation"),
            *(
                "--authorization-mode=RBAC",
                f"--service-cluster-ip-range={SERVICE_NETWORK}",
                f"--advertise-address={address}",
            ),
            *(f"--kubelet-client-certificate={certificate}", f"--kubelet-client-key={client}"),
            "--kubelet-preferred-address-types=InternalIP",
            *("--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={public}"),
            # Debian's etcd 3.4 cannot stream a list: clients would ask, be refused, and wait ten seconds each time.
            "--feature-gates=WatchList=false,SizeBasedListCostEstimate=false",
            "--endpoint-reconciler-type=none",  # endpoints may not lie on loopback; nothing here asks for them
            f"--service-account-signing-key-file={key}",
        ),
        "kube-controller-manager": (
            *(f"--kubeconfig={kubeconfig}", "--leader-elect=false", f"--service-account-private-key-file={key}"),
            *("--use-service-account-credentials=false", "--secure-port=0", "--concurrent-gc-syncs=5"),
            # kwok's nodes renew no lease: after 50 s they would be lost, and their pods not ready.
            *("--node-monitor-grace-period=2h", "--node-startup-grace-period=2h"),
            *("--kube-api-qps=200", "--kube-api-burst=400"),
            "--horizontal-pod-autoscaler-sync-period=1s",  # 15 s where nobody waits for a test
        ),
        "kube-scheduler": (f"--kubeconfig={kubeconfig}", "--leader-elect=false", "--secure-port=0"),
        "kwok": (
            *(f"--kubeconfig={kubeconfig}", f"--config={stages}", "--node-ip=127.0.0.1"),
            *("--manage-all-nodes=false", "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"),
        ),
    }


def _aggregation(folder: Path) -> Sequence[str]:
    """How the API server proves itself to the servers behind it (KEDA's metrics), and names who asks."""
    front = authority(folder, "front-proxy")
    proxy = issued(folder, "proxy", by=front, subject="front-proxy")
    return (
        *(f"--proxy-client-cert-file={proxy.certificate}", f"--proxy-client-key-file={proxy.key}"),
        *(f"--requestheader-client-ca-file={front.certificate}", "--requestheader-allowed-names=front-proxy"),
        *("--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group"),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
    )


def _stages(folder: Path) -> str:
    """kwok's fast stages as one document; a Job's pod completes unless it carries the annotation WORKING."""
    documents = [
        document
        for path in sorted(folder.rglob("*.yaml"))
        if "testdata" not in path.parts
        for document in yaml.safe_load_all(path.read_text())
        if document and document.get("kind") == "Stage"
    ]
    idle = {"key": f'.metadata.annotations["{WORKING}"]', "operator": "DoesNotExist"}
    for stage in documents:
        if stage["metadata"]["name"] == "pod-complete":
            stage["spec"]["selector"]["matchExpressions"].append(idle)
    return yaml.safe_dump_all(documents)


def _node(name: str, extended: dict[str, str]) -> dict[str, Any]:
    capacity = {"cpu": "64", "memory": "512Gi", "pods": "110", "ephemeral-storage": "4Ti", **extended}
    labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "type": "kwok"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def _ready_nodes(cluster: Cluster) -> list[str]:
    return [
        node["metadata"]["name"]
        for node in cluster.items("nodes")
        if any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", []))
    ]


def _write_kubeconfig(folder: Path, *, token: str, server: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "kubeconfig"
    # The server makes its own certificate as it starts; it listens on this machine alone.
    endpoint = {"server": f"https://{server}", "insecure-skip-tls-verify": True}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": endpoint}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(document))
    path.chmod(0o600)
    return path
