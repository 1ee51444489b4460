"""Process 1 of a node in a box: its own mounts and network, then containerd, kubelet and kube-proxy until one ends.

`python node_init.py PLAN.json`, started by `node.py` in new PID and mount namespaces. When it ends, the kernel ends
every process and mount of the node with it, pods' too. Knows paths and command lines; knows nothing of Kubernetes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def main(plan: Mapping[str, Any]) -> int:
    """Set the node up and wait for the first of its daemons to end."""
    folder = Path(plan["folder"])
    os.environ["PATH"] = plan["path"]
    _own_mounts(folder)
    network = _own_network(plan)
    daemons = {
        _start([*network, *command], log=folder / f"{name}.log"): name for name, command in plan["daemons"].items()
    }
    while True:
        pid, status = os.wait()  # also reaps what containerd's shims leave
        if pid in daemons:
            print(f"{daemons[pid]} ended with {os.waitstatus_to_exitcode(status)}", file=sys.stderr, flush=True)
            return 1


def _own_mounts(folder: Path) -> None:
    """Every path that a node writes to, in the folder, under its usual name."""
    _run("mount", "--make-rshared", "/")  # volumes that kubelet mounts must reach containers
    for name in ("lib", "log"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        _run("mount", "--bind", folder / name, f"/var/{name}")
    _run("mount", "-t", "tmpfs", "tmpfs", "/run")


def _own_network(plan: Mapping[str, Any]) -> list[str]:
    """A network namespace with the node's end of the wire; the words that run a command in it."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    enter = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
    host = os.readlink("/proc/self/ns/net")
    while os.readlink(f"/proc/{holder.pid}/ns/net") == host:
        os.sched_yield()
    _run("ip", "link", "set", plan["wire"], "netns", holder.pid)
    for command in (
        ("ip", "link", "set", "lo", "up"),
        ("ip", "addr", "add", plan["address"], "dev", plan["wire"]),
        ("ip", "link", "set", plan["wire"], "up"),
        ("ip", "route", "add", "default", "via", plan["gateway"]),
        ("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
    ):
        _run(*enter, *command)
    return enter


def _start(command: Sequence[str], *, log: Path) -> int:
    with log.open("wb") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT).pid


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


if __name__ == "__main__":
    sys.exit(main(json.loads(Path(sys.argv[1]).read_text())))
