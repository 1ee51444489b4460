"""A real Kubernetes node on this machine, beside the tests' control plane: kubelet, kube-proxy, containerd and runc.

kube-router's firewall alone runs too: it enforces network policies.

It is a box: a process tree in PID, mount and network namespaces of its own (`node_init.py`), joined to the machine by
one wire. Killing the box's first process leaves nothing but cgroups and files; both go at the end. Needs root.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from deploy.control_plane import SERVICE_NETWORK, Cluster
from deploy.images_local import REGISTRY, write_image
from deploy.processes import await_up, start, stop
from deploy.tools import Tools

NODE = "real-1"
CGROUPS = Path("/sys/fs/cgroup")
DNS_ADDRESS = "10.0.0.10"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
CPU_SHARES = 12 * 1024
START_DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True)
class Wire:
    """A pair of interfaces between this machine and a node that is not there yet."""

    name: str
    number: int

    @property
    def host(self) -> str:
        """Address of this machine's end: where the node finds the API server."""
        return f"10.213.{self.number}.1"

    @property
    def node(self) -> str:
        """Address of the node's end: where the API server finds kubelet."""
        return f"10.213.{self.number}.2"

    @property
    def pods(self) -> str:
        """The network of the node's pods."""
        return f"10.214.{self.number}.0/24"


@dataclass(frozen=True, slots=True)
class Node:
    """A running node."""

    folder: Path
    pid: int

    def load(self, *archives: Path) -> None:
        """Give images to the node: kubelet pulls nothing. Raises CalledProcessError with ctr's words in its output."""
        for archive in archives:
            self.ctr("images", "import", "--no-unpack", archive)

    def ctr(self, *arguments: str | Path) -> str:
        """What containerd's client prints, asked inside the node."""
        return self.run("ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", *arguments)

    def run(self, *command: str | Path) -> str:
        """What a command prints that runs beside kubelet: in the node's mounts and network."""
        enter = ["nsenter", "--target", str(self.pid), "--mount", "--pid"]
        done = subprocess.run([*enter, *map(str, command)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr or done.stdout}")
        return done.stdout


def what_is_missing(tools: Tools) -> list[str]:
    """What a node needs and this machine does not have, in words for a skip."""
    missing = [] if os.geteuid() == 0 else ["root"]
    missing += [
        word for word in ("ip", "nsenter", "unshare", "iptables", "ipset", "mount") if shutil.which(word) is None
    ]
    missing += [str(CGROUPS / "memory")] if not (CGROUPS / "memory").is_dir() else []
    return [*missing, *tools.missing_for_node()]


@contextlib.contextmanager
def wire() -> Iterator[Wire]:
    """The pair of interfaces while the block runs; what hangs on it goes with it."""
    taken = subprocess.run(["ip", "-brief", "addr"], capture_output=True, text=True, check=True).stdout
    number = next(n for n in secrets.SystemRandom().sample(range(1, 255), 254) if f"10.213.{n}." not in taken)
    made = Wire(f"mendloop{number}", number)
    _run("ip", "link", "add", made.name, "type", "veth", "peer", "name", f"{made.name}n")
    try:
        _run("ip", "addr", "add", f"{made.host}/24", "dev", made.name)
        _run("ip", "link", "set", made.name, "up")
        yield made
    finally:
        # Gone already where the node's namespace went before.
        subprocess.run(["ip", "link", "del", made.name], check=False, capture_output=True)


@contextlib.contextmanager
def running_node(cluster: Cluster, joined: Wire, folder: Path) -> Iterator[Node]:
    """A node of the cluster with a name service for its pods, while the block runs."""
    folder.mkdir(parents=True, exist_ok=True)
    with _cgroup(f"mendloop-{joined.number}-{secrets.token_hex(2)}") as cgroup:
        plan = folder / "plan.json"
        plan.write_text(json.dumps(_plan(cluster, joined, folder, cgroup=cgroup)))
        log = folder / "box.log"
        init = [sys.executable, str(Path(__file__).with_name("node_init.py")), str(plan)]
        box = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", *init]
        process = start(box, log=log)
        try:
            node = Node(folder, _await_first_process(process.pid, log))
            _await_ready(cluster, node)
            yield node
        finally:
            stop(process)
    shutil.rmtree(folder / "lib")  # unpacked images: gigabytes, which pytest would keep for three sessions


def start_dns(cluster: Cluster, node: Node) -> None:
    """CoreDNS in a pod behind the service that kubelet writes into pods' resolv.conf."""
    image = _load_own(node, cluster.tools, "dns")
    kubeconfig = cluster.kubeconfig.read_text()
    for document in _dns_objects(image, kubeconfig):
        cluster.kubectl("apply", "-f", "-", text=json.dumps(document))
    cluster.kubectl("--namespace", "kube-system", "rollout", "status", "deployment/dns", "--timeout=120s")


def _load_own(node: Node, tools: Tools, name: str) -> str:
    archive = node.folder / f"{name}.tar"
    image = write_image(archive, name=name, binary=tools.binary(name))
    node.load(archive)
    return image


def _plan(cluster: Cluster, joined: Wire, folder: Path, *, cgroup: str) -> dict[str, Any]:
    """What the box's first process is to do, with every configuration file written."""
    tools = cluster.tools
    cni, containerd, kubelet = folder / "cni", folder / "containerd.toml", folder / "kubelet.yaml"
    cni.mkdir(exist_ok=True)
    (cni / "10-pods.conflist").write_text(json.dumps(_pod_network(joined)))
    containerd.write_text(_containerd(cni, tools))
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\n")
    kubelet.write_text(yaml.safe_dump(_kubelet(cluster, cgroup=cgroup, resolv=resolv)))
    kubeconfig = f"--kubeconfig={cluster.kubeconfig}"
    pause = folder / "pause.tar"
    write_image(pause, name="pause", binary=tools.binary("pause"))
    return {
        "folder": str(folder),
        "wire": f"{joined.name}n",
        "address": f"{joined.node}/24",
        "gateway": joined.host,
        "path": tools.node_path,
        "daemons": {
            "containerd": ["containerd", "--config", str(containerd)],
            "kubelet": [
                str(tools.binary("kubelet")),
                *(kubeconfig, f"--config={kubelet}", f"--hostname-override={NODE}", f"--node-ip={joined.node}"),
            ],
            "kube-proxy": [
                str(tools.binary("kube-proxy")),
                *(kubeconfig, f"--hostname-override={NODE}", "--proxy-mode=iptables", f"--cluster-cidr={joined.pods}"),
                # The machine's own table; a node in a box must not resize it.
                *("--conntrack-max-per-core=0", "--conntrack-min=0"),
            ],
            "kube-router": ["sh", "-c", _policies(cluster)],
        },
    }


def _policies(cluster: Cluster) -> str:
    """A shell's line that enforces policies once the node is known: elsewhere a DaemonSet waits for that."""
    kubeconfig = f"--kubeconfig={cluster.kubeconfig}"
    known = f"kubectl {kubeconfig} get node {NODE}"
    router = [str(cluster.tools.binary("kube-router")), kubeconfig, f"--hostname-override={NODE}"]
    parts = ["--run-firewall=true", "--run-router=false", "--run-service-proxy=false", "--iptables-sync-period=5s"]
    command = shlex.join([*router, f"--service-cluster-ip-range={SERVICE_NETWORK}", *parts])
    return f"until {known} > /dev/null 2>&1; do sleep 0.2; done; exec {command}"


def _pod_network(joined: Wire) -> dict[str, Any]:
    """A routed pair of interfaces for each pod: no bridge, so every packet passes the node's firewall."""
    ranges = {"type": "host-local", "ranges": [[{"subnet": joined.pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    return {
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{"type": "ptp", "ipMasq": True, "ipam": ranges}],
    }


def _containerd(cni: Path, tools: Tools) -> str:
    return f"""version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[plugins."io.containerd.grpc.v1.cri"]
  # Root of a small virtual machine may lack CAP_SYS_RESOURCE: no process may then be spared by the OOM killer.
  restrict_oom_score_adj = true
  sandbox_image = "{REGISTRY}/pause:test"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{tools.cni}"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""


def _kubelet(cluster: Cluster, *, cgroup: str, resolv: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(cluster.kubelet_client.with_suffix(".crt"))},
        },
        "authorization": {"mode": "AlwaysAllow"},  # the API server alone has the certificate
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": str(resolv),
        "failSwapOn": False,
        "failCgroupV1": False,
        # The disk is the machine's; a full one is no reason to evict a test.
        "evictionHard": {"memory.available": "200Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "4s",
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
    }


def _dns_objects(image: str, kubeconfig: str) -> Sequence[Mapping[str, Any]]:
    meta = {"name": "dns", "namespace": "kube-system"}
    labels = {"k8s-app": "kube-dns"}
    corefile = (
        ".:53 {\n errors\n health\n ready\n"
        " kubernetes cluster.local in-addr.arpa {\n  kubeconfig /etc/dns/kubeconfig\n }\n}\n"
    )
    data = {"Corefile": corefile, "kubeconfig": kubeconfig}
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}
    container = {
        "name": "dns",
        "image": image,
        "imagePullPolicy": "Never",
        "args": ["-conf", "/etc/dns/Corefile"],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
        "volumeMounts": [{"name": "conf", "mountPath": "/etc/dns"}],
    }
    pod = {
        "dnsPolicy": "Default",
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "conf", "secret": {"secretName": "dns"}}],
    }
    template = {"metadata": {"labels": labels}, "spec": pod}
    ports = [{"name": name, "port": 53, "protocol": name.upper()} for name in ("udp", "tcp")]
    return (
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": encoded},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"clusterIP": DNS_ADDRESS, "selector": labels, "ports": ports},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": meta,
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
        },
    )


def _await_first_process(guard: int, log: Path) -> int:
    """The box's first process as this machine numbers it: guard → unshare → it."""

    def found() -> int | None:
        unshare = _children(guard)
        inner = _children(unshare[0]) if unshare else []
        return inner[0] if inner else None

    pid = await_up(found, log=log)
    assert pid is not None
    return pid


def _children(pid: int) -> list[int]:
    """Direct children of a process; none of one that is gone."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _await_ready(cluster: Cluster, node: Node) -> None:
    await_up(lambda: "v1." in node.ctr("version") or "Server" in node.ctr("version"), log=node.folder / "box.log")
    node.load(node.folder / "pause.tar")
    await_up(
        lambda: (
            "True"
            in cluster.kubectl("get", "node", NODE, "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}')
        ),
        log=node.folder / "kubelet.log",
    )


@contextlib.contextmanager
def _cgroup(name: str) -> Iterator[str]:
    """One cgroup in each hierarchy of this machine, empty again and gone at the end."""
    made = [hierarchy / name for hierarchy in CGROUPS.iterdir() if (hierarchy / "tasks").exists()]
    for folder in made:
        folder.mkdir()
    cpuset = CGROUPS / "cpuset"
    for setting in ("cpuset.cpus", "cpuset.mems"):  # a new one has none, and then takes no process
        (cpuset / name / setting).write_text((cpuset / setting).read_text())
    # A new one weighs as much as a single process of this machine: measured under 44 of them, the broker took 3 min.
    (CGROUPS / "cpu" / name / "cpu.shares").write_text(str(CPU_SHARES))
    try:
        yield name
    finally:
        for folder in made:
            _remove_cgroup(folder)


def _remove_cgroup(folder: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S  # under a load of 60, twenty seconds were too few
    while folder.exists():
        for inner, _, _ in os.walk(folder, topdown=False):
            with contextlib.suppress(OSError):  # busy while the kernel still ends its processes
                os.rmdir(inner)
        if time.monotonic() > deadline:
            raise TimeoutError(f"{folder}: a process of the node is still there")
        time.sleep(0.05)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
