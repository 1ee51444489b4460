"""The pods of a release as processes of this machine: what the rendered chart says of them, run without a cluster.

Plays the kubelet (command, environment, mounts, readiness, SIGTERM and grace), Helm (hooks first) and the Deployment
controller (a rollout by the strategy). Nothing is taken but from the manifests; paths of mounts become folders, ports
become free ones.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from deploy.chart import Manifest, of_kind, rendered
from ports import free_port
from releases import Release
from waiting import wait_until

HOOK_S, START_S = 600.0, 900.0
_NAMED_PORTS = {"MENDLOOP_METRICS_PORT": "metrics", "MENDLOOP_PORT": "http", "MENDLOOP_GRPC_PORT": "grpc"}
_OF_THE_MACHINE = ("PATH", "LANG", "HF_HUB_OFFLINE", "OMP_WAIT_POLICY", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class Pod:
    """A process that plays a pod."""

    name: str
    service: str
    release: Release
    process: subprocess.Popen[bytes]
    log: Path
    ready_url: str
    urls: dict[str, str]
    grace_s: float

    def is_ready(self) -> bool:
        """What its readiness probe says. Fails where the process ended."""
        assert self.process.poll() is None, f"{self.name} ended by itself:\n{self.said()[-3000:]}"
        try:
            with urllib.request.urlopen(self.ready_url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def metric(self, name: str, *labels: str) -> float:
        """The largest value of a metric with these labels on its page; 0 where it has none."""
        with urllib.request.urlopen(f"{self.urls['metrics']}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        found = [line for line in lines if line.startswith(f"{name}{{") and all(label in line for label in labels)]
        return max((float(line.rsplit(" ", 1)[1]) for line in found), default=0.0)

    def said(self) -> str:
        """Its log."""
        return self.log.read_text(errors="replace")

    def end(self) -> float:
        """SIGTERM; seconds until it was gone. Fails where it outlives its grace, in which a kubelet would kill it."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=self.grace_s)
        assert self.process.returncode == 0, f"{self.name} ended with {self.process.returncode}:\n{self.said()[-3000:]}"
        return time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Rolled:
    """How a service's pod was replaced: when that began (Unix time), how long the old one took to go, how long the new
    one to be ready, and how long none was ready."""

    service: str
    began_at: float
    going_s: float
    starting_s: float
    without_s: float


@dataclass(slots=True)
class Pods:
    """A namespace: the pods of each service, under a folder with their volumes and logs."""

    folder: Path
    settings: tuple[str, ...]
    """What the operator's values say beyond values-small, as --set-json."""
    running: dict[str, Pod] = field(default_factory=dict)
    rolled: list[Rolled] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    def manifests(self, release: Release) -> list[Manifest]:
        """What the release's own chart renders."""
        return rendered("small", *self.settings, chart=release.chart)

    def run_hooks(self, release: Release) -> float:
        """The jobs that Helm runs before it touches a service, one after the other; seconds."""
        began = time.monotonic()
        jobs = of_kind(self.manifests(release), "Job")
        for name in sorted(jobs, key=lambda name: (_weight(jobs[name]), name)):
            spec = jobs[name]["spec"]["template"]["spec"]
            container = spec["containers"][0]
            environment = self._environment(release, spec, container, pod=f"hook-{name}", ports={})
            done = subprocess.run(
                _command(container), env=environment, capture_output=True, text=True, timeout=HOOK_S, cwd=self.folder
            )
            assert done.returncode == 0, f"hook {name} of {release.version}:\n{done.stdout}\n{done.stderr[-3000:]}"
        return time.monotonic() - began

    def install(self, release: Release) -> None:
        """Hooks, then all services at once."""
        self.run_hooks(release)
        started = [self._start(release, name) for name in self._deployments(release)]
        for pod in started:
            wait_until(pod.is_ready, deadline_s=START_S, every_s=0.2)
            self.running[pod.service] = pod

    def add(self, service: str, release: Release) -> None:
        """Start one service alone."""
        self.running[service], _ = self._ready(release, service)

    def roll(self, service: str, release: Release) -> Pod:
        """Replace a service's pod as its Deployment's strategy says; gives the one that went."""
        before, began_at = self.running[service], time.time()
        rolling = self._deployments(release)[service]["spec"]["strategy"]["rollingUpdate"]
        if rolling["maxSurge"]:
            self.running[service], starting_s = self._ready(release, service)
            self.rolled.append(Rolled(service, began_at, before.end(), starting_s, 0.0))
            return before
        going_s = before.end()
        self.running[service], starting_s = self._ready(release, service)
        self.rolled.append(Rolled(service, began_at, going_s, starting_s, going_s + starting_s))
        return before

    def check(self) -> None:
        """Fails where a pod ended by itself."""
        for pod in self.running.values():
            assert pod.process.poll() is None, f"{pod.name} ended by itself:\n{pod.said()[-3000:]}"

    def stop(self) -> None:
        """End everything, whatever it takes."""
        for pod in self.running.values():
            pod.process.kill()
            pod.process.wait()

    def run(self, release: Release, service: str, *words: str) -> str:
        """What a command prints in a new pod of a service, as `kubectl exec` would."""
        spec = self._deployments(release)[service]["spec"]["template"]["spec"]
        environment = self._environment(release, spec, _own(spec, service), pod=f"exec-{next(self._numbers)}", ports={})
        done = subprocess.run(
            [sys.executable, *words], env=environment, capture_output=True, text=True, timeout=HOOK_S, cwd=self.folder
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.strip()

    def _deployments(self, release: Release) -> dict[str, Manifest]:
        return of_kind(self.manifests(release), "Deployment")

    def _ready(self, release: Release, service: str) -> tuple[Pod, float]:
        began = time.monotonic()
        pod = self._start(release, service)
        try:
            wait_until(pod.is_ready, deadline_s=START_S, every_s=0.2)
        except BaseException:
            pod.process.kill()
            raise
        return pod, time.monotonic() - began

    def _start(self, release: Release, service: str) -> Pod:
        spec = self._deployments(release)[service]["spec"]["template"]["spec"]
        container = _own(spec, service)
        name = f"{service}-{release.version}-{next(self._numbers)}"
        ports = {port["name"]: free_port() for port in container["ports"]}
        probe = container["readinessProbe"]["httpGet"]
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as out:
            process = subprocess.Popen(
                _command(container),
                env=self._environment(release, spec, container, pod=name, ports=ports),
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                cwd=self.folder,
            )
        urls = {port: f"http://127.0.0.1:{number}" for port, number in ports.items()}
        ready = urls[probe["port"]] + probe["path"]
        return Pod(name, service, release, process, log, ready, urls, spec["terminationGracePeriodSeconds"])

    def _environment(
        self, release: Release, spec: Manifest, container: Manifest, *, pod: str, ports: dict[str, int]
    ) -> dict[str, str]:
        """The container's environment; where it names a mount, the folder that plays it."""
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            maps = {m["metadata"]["name"]: m for m in self.manifests(release) if m["kind"] == "ConfigMap"}
            found |= maps[source["configMapRef"]["name"]]["data"]
        for entry in container["env"]:
            found[entry["name"]] = entry.get("value", pod)  # fieldRef: the pod's name
            assert "value" in entry or "fieldRef" in entry["valueFrom"], f"{entry}: there are no secrets here"
        folders = self._mounts(spec, container, pod=pod)
        found = {name: _placed(value, folders) for name, value in found.items()}
        found |= {name: str(ports[port]) for name, port in _NAMED_PORTS.items() if port in ports and name in found}
        found |= {name: "127.0.0.1" for name, value in found.items() if value == "0.0.0.0"}
        kept = {name: os.environ[name] for name in _OF_THE_MACHINE if name in os.environ}
        return {**kept, "PYTHONPATH": str(release.services), "OMP_NUM_THREADS": "1", **found}

    def _mounts(self, spec: Manifest, container: Manifest, *, pod: str) -> dict[str, Path]:
        """Folders by mount path: one a claim, and a new one a pod for what is an emptyDir."""
        claims = {v["name"]: v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if _is_claim(v)}
        folders = {}
        for mount in container["volumeMounts"]:
            name = mount["name"]
            place = self.folder / "claims" / claims[name] if name in claims else self.folder / "pods" / pod / name
            folders[mount["mountPath"]] = place / mount.get("subPath", "")
            folders[mount["mountPath"]].mkdir(parents=True, exist_ok=True)
        return folders


def _weight(job: Manifest) -> int:
    return int(job["metadata"]["annotations"]["helm.sh/hook-weight"])


def _own(spec: Manifest, service: str) -> Manifest:
    found: Manifest = next(c for c in spec["containers"] if c["name"] == service)
    return found


def _is_claim(volume: Manifest) -> bool:
    return "persistentVolumeClaim" in volume


def _command(container: Manifest) -> list[str]:
    program, *words = container["command"]
    assert program == "python", container["command"]
    return [sys.executable, *words, *container.get("args", [])]


def _placed(value: str, folders: dict[str, Path]) -> str:
    """The value with a leading mount path (file:// or plain) replaced by its folder."""
    scheme, plain = ("file://", value.removeprefix("file://")) if value.startswith("file://") else ("", value)
    for mount, folder in folders.items():
        if plain == mount or plain.startswith(f"{mount}/"):
            return f"{scheme}{folder}{plain.removeprefix(mount)}"
    return value
