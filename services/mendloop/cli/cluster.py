"""`mend doctor --cluster`: what a Kubernetes cluster has for a release, what is missing, and what to do about it.

Asks through kubectl, with the rights of who calls, and changes nothing. Reads names and keys of secrets, not values.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mendloop.cli.doctor import Finding
from mendloop.core.contracts import all_topics

Document = Mapping[str, Any]
Ask = Callable[[Sequence[str]], str]
"""Runs kubectl with arguments and gives what it prints. Raises ClusterSilent."""

OPERATORS = {
    "scaledobjects.keda.sh": ("KEDA", "services scale by lag", "install KEDA, or set scaling.by: hpa"),
    "scaledjobs.keda.sh": ("KEDA jobs", "the trainer as a queue of jobs", "install KEDA, or set kind: deployment"),
    "prometheusrules.monitoring.coreos.com": (
        "Prometheus operator",
        "alerts and scraping",
        "install it, or scrape",
    ),
    "trainjobs.trainer.kubeflow.org": ("Kubeflow Trainer", "trainJob", "install it, or train in one pod"),
    "httproutes.gateway.networking.k8s.io": ("Gateway API", "gateway.route", "install it, or use gateway.ingress"),
}
KUBECTL_TIMEOUT_S = 30


class ClusterSilent(Exception):
    """kubectl is missing, or the cluster did not answer; the message is kubectl's."""


@dataclass(frozen=True, slots=True)
class Release:
    """Where to look."""

    name: str
    namespace: str


def examine_cluster(release: Release, *, ask: Ask) -> list[Finding]:
    """Every check, in the order in which a person would go about them; a silent cluster ends it."""
    try:
        context = ask(["config", "current-context"]).strip()
        ask(["get", "--raw", "/readyz"])
    except ClusterSilent as error:
        return [Finding("cluster", False, str(error), "check the kubectl context: kubectl config get-contexts")]
    findings = [Finding("cluster", True, f"context {context}")]
    findings += [_operator(crd, *words, ask=ask) for crd, words in OPERATORS.items()]
    pods = _items(["get", "pods", *_of(release)], ask)
    templates = [*_templates(release, ask), *(pod["spec"] for pod in pods)]
    findings.append(_release(release, templates))
    findings += _accelerators(templates, ask)
    findings += _secrets(release, templates, ask)
    findings.append(_topics(release, pods, ask))
    findings += _unready(pods)
    return findings


def ask_kubectl(arguments: Sequence[str]) -> str:
    """What kubectl prints. Raises ClusterSilent where it is not installed, fails or hangs."""
    try:
        done = subprocess.run(
            ["kubectl", *arguments], capture_output=True, text=True, check=False, timeout=KUBECTL_TIMEOUT_S
        )
    except FileNotFoundError:
        raise ClusterSilent("kubectl is not on the PATH; install it and choose a context") from None
    except subprocess.TimeoutExpired:
        raise ClusterSilent(f"kubectl {' '.join(arguments)}: no answer in {KUBECTL_TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise ClusterSilent(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "kubectl failed")
    return done.stdout


def _of(release: Release) -> list[str]:
    return ["--namespace", release.namespace, "--selector", f"app.kubernetes.io/instance={release.name}"]


def _items(arguments: Sequence[str], ask: Ask) -> list[Document]:
    try:
        return list(json.loads(ask([*arguments, "--output", "json"]))["items"])
    except ClusterSilent:
        return []


def _operator(crd: str, name: str, use: str, advice: str, *, ask: Ask) -> Finding:
    try:
        ask(["get", "crd", crd])
    except ClusterSilent:
        return Finding(f"{name} ({use})", False, f"no {crd}", advice, is_needed=False)
    return Finding(f"{name} ({use})", True, crd)


def _templates(release: Release, ask: Ask) -> list[Document]:
    """Pod specs that the release would start, also while nothing runs."""
    deployments = _items(["get", "deployments", *_of(release)], ask)
    jobs = _items(["get", "scaledjobs.keda.sh", *_of(release)], ask)
    return [
        *(d["spec"]["template"]["spec"] for d in deployments),
        *(job["spec"]["jobTargetRef"]["template"]["spec"] for job in jobs),
    ]


def _release(release: Release, templates: Sequence[Document]) -> Finding:
    what, where = "release", f"{release.name} in namespace {release.namespace}"
    if templates:
        return Finding(what, True, where)
    return Finding(what, False, f"nothing of {where}", "helm install, or name it with --release and --namespace")


def _accelerators(templates: Sequence[Document], ask: Ask) -> list[Finding]:
    """Whether some node has as many accelerators as a replica asks for."""
    wanted: dict[str, int] = {}
    for spec in templates:
        for container in spec["containers"]:
            for resource, count in container.get("resources", {}).get("limits", {}).items():
                if "/" in resource:
                    wanted[resource] = max(wanted.get(resource, 0), int(count))
    nodes = _items(["get", "nodes"], ask) if wanted else []
    return [_accelerator(resource, count, nodes) for resource, count in sorted(wanted.items())]


def _accelerator(resource: str, count: int, nodes: Sequence[Document]) -> Finding:
    most = max((int(node["status"].get("allocatable", {}).get(resource, 0)) for node in nodes), default=0)
    detail = f"a replica needs {count}; the largest of {len(nodes)} node(s) has {most}"
    advice = "install the device plugin, add a node, or set another gpu.resource; an autoscaler may still bring one"
    return Finding(resource, most >= count, detail, advice)


def _secrets(release: Release, templates: Sequence[Document], ask: Ask) -> list[Finding]:
    """Secrets and keys that pods name: a missing one leaves a pod in CreateContainerConfigError."""
    named: dict[str, set[str]] = {}
    for spec in templates:
        for container in spec["containers"]:
            for entry in container.get("env", ()):
                reference = entry.get("valueFrom", {}).get("secretKeyRef")
                if reference:
                    named.setdefault(reference["name"], set()).add(reference["key"])
        for volume in spec.get("volumes", ()):
            if "secret" in volume:
                keys = {item["key"] for item in volume["secret"].get("items", ())}
                named.setdefault(volume["secret"]["secretName"], set()).update(keys)
    return [_secret(name, keys, release, ask) for name, keys in sorted(named.items())]


def _secret(name: str, keys: set[str], release: Release, ask: Ask) -> Finding:
    # Only the keys are asked for: a doctor's output is pasted into tickets.
    template = 'go-template={{range $key, $value := .data}}{{$key}}{{"\\n"}}{{end}}'
    try:
        present = set(ask(["get", "secret", name, "--namespace", release.namespace, "--output", template]).split())
    except ClusterSilent as error:
        advice = f"kubectl create secret generic {name} --namespace {release.namespace} " + " ".join(
            f"--from-literal={key}=..." for key in sorted(keys)
        )
        return Finding(f"secret {name}", False, str(error), advice)
    missing = sorted(keys - present)
    detail = f"misses {', '.join(missing)}" if missing else f"has {', '.join(sorted(keys))}"
    return Finding(f"secret {name}", not missing, detail, "add the key(s); pods read them when they start")


def _topics(release: Release, pods: Sequence[Document], ask: Ask) -> Finding:
    """Asks the brokers from inside, with the credentials of a service that runs."""
    running = [p for p in pods if p["status"].get("phase") == "Running" and _component(p) in ("controller", "gateway")]
    what = "topics"
    if not running:
        return Finding(
            what, False, "no running controller or gateway to ask from", "see the pods below", is_needed=False
        )
    pod = running[0]["metadata"]["name"]
    command = ["exec", pod, "--namespace", release.namespace, "--", "python", "-m", "mendloop.bus.topics", "--missing"]
    try:
        missing = ask(command).split()
    except ClusterSilent as error:
        return Finding(what, False, f"{pod}: {error}", "check brokers, credentials and network policies")
    if missing:
        detail = f"{len(missing)} of {len(all_topics())} missing, e.g. {missing[0]}"
        return Finding(what, False, detail, "helm upgrade runs the hook that creates them (topics.create)")
    return Finding(what, True, f"all {len(all_topics())} are there")


def _unready(pods: Sequence[Document]) -> list[Finding]:
    return [
        Finding(f"pod {pod['metadata']['name']}", False, _why(pod), "kubectl describe pod, kubectl logs --previous")
        for pod in pods
        if pod["status"].get("phase") != "Succeeded" and not _is_ready(pod)
    ]


def _component(pod: Document) -> str:
    return str(pod["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""))


def _is_ready(pod: Document) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def _why(pod: Document) -> str:
    """The first reason that the cluster gives: of a container that waits, else of an unmet condition."""
    for status in pod["status"].get("containerStatuses", ()):
        waiting = status.get("state", {}).get("waiting")
        if waiting:
            return f"{waiting.get('reason', 'waiting')}: {waiting.get('message', 'no message')}"
    for condition in pod["status"].get("conditions", ()):
        if condition["status"] != "True" and condition.get("message"):
            return f"{condition.get('reason', condition['type'])}: {condition['message']}"
    return str(pod["status"].get("phase", "unknown"))
