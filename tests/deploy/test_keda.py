"""KEDA itself on the chart's objects: its operator and adapter, the HPA controller of a real cluster, a real broker.

Pods are kwok's, so nothing works in them; where a test needs events worked off, a worker of the bus does it here.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from deploy.chart import CHART, VALUES
from deploy.conftest import require
from deploy.control_plane import WORKING, Cluster, apply_crds, running_cluster
from deploy.kafka_load import PARTITION_COUNT, envelope, keys_apart, lay_out_topics, partition_of, working
from deploy.keda import running_keda
from deploy.tools import COMPONENTS, KEDA_PROGRAMS, tools
from kafka_broker import CACHE, require_java
from secured_kafka import PASSWORDS, SERVICE, secured_broker
from waiting import wait_until

from mendloop.bus.broker import running_broker
from mendloop.bus.kafka import KafkaBus
from mendloop.v1 import evaluation_pb2, intervention_pb2, loop_pb2

pytestmark = [pytest.mark.deploy, pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(1800)]
NAMESPACE, RELEASE = "loops", "r"
eventually = partial(wait_until, deadline_s=400, every_s=0.5)  # each look is a kubectl
POLLS = 5
"""Looks at the lag after which what did not happen will not."""
SCALED = ("evaluator", "diagnostician", "data-generator", "controller")
AT_ONCE = {
    "scaleDown": {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 10, "periodSeconds": 1}]}
}
COOLDOWN_S = 4
VALUES_HERE = {
    "serviceDefaults": {
        "scaling": {"by": "keda", "pollingInterval": 1, "cooldownPeriod": COOLDOWN_S, "behavior": AT_ONCE},
    },
    "services": {
        "trainer": {"kind": "jobs", "podAnnotations": {WORKING: "yes"}},
        "gateway": {"scaling": {"by": "hpa"}},
    },
}


@dataclass(slots=True)
class Broker:
    """A real broker that can be taken away and comes back with its log."""

    folder: Path
    bootstrap: str = ""
    _running: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self) -> None:
        port = int(self.bootstrap.partition(":")[2] or 0)
        self.bootstrap = self._running.enter_context(
            running_broker(cache=CACHE, port=port, data_dir=self.folder, deadline_s=300)
        )

    def stop(self) -> None:
        self._running.close()


@dataclass(frozen=True, slots=True)
class Scene:
    """A release of the chart whose services KEDA scales, and the bus on which they would work."""

    cluster: Cluster
    bus: KafkaBus

    def replicas(self, service: str) -> int:
        """The pods that the service's Deployment is to have."""
        name = f"{RELEASE}-mendloop-{service}"
        return int(self._get("deployment", name)["spec"]["replicas"])

    def jobs(self) -> set[str]:
        """Names of the trainer's Jobs, finished or not."""
        return {job["metadata"]["name"] for job in self.cluster.items("jobs", namespace=NAMESPACE)}

    def job_pods(self) -> list[str]:
        """Names of the running pods of the trainer's Jobs."""
        pods = self.cluster.items("pods", namespace=NAMESPACE)
        return [p["metadata"]["name"] for p in pods if p["status"]["phase"] == "Running" and _is_of_job(p)]

    def condition(self, kind: str, service: str, name: str) -> str:
        """The status of one condition of an object of the service; empty where it has none."""
        status = self._get(kind, f"{RELEASE}-mendloop-{service}").get("status", {})
        return next((c["status"] for c in status.get("conditions", []) if c["type"] == name), "")

    def looks_in_vain(self, service: str) -> int:
        """How often KEDA could not learn a service's lag; it looks each second."""
        return self._logged("error getting state of scaledObject", f'"{RELEASE}-mendloop-{service}"')

    def after_polls(self, count: int = POLLS) -> None:
        """Wait until KEDA has looked at the trainer's lag so many times more."""
        words = "Checking if ScaleJob Scalers are active"
        seen = self._logged(words)
        eventually(lambda: self._logged(words) >= seen + count)

    def _logged(self, *words: str) -> int:
        """Lines of KEDA's log that hold all the words."""
        lines = (self.cluster.kubeconfig.parent / "keda" / "keda-operator.log").read_text().splitlines()
        return sum(all(word in line for word in words) for line in lines)

    def _get(self, kind: str, name: str) -> dict[str, Any]:
        text = self.cluster.kubectl("get", kind, name, "--namespace", NAMESPACE, "-o", "json")
        return dict(json.loads(text))


def _is_of_job(pod: dict[str, Any]) -> bool:
    return any(owner["kind"] == "Job" for owner in pod["metadata"].get("ownerReferences", []))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of these tests alone: one of them takes it away."""
    require_java()
    own = Broker(tmp_path_factory.mktemp("broker"))
    own.start()
    yield own
    own.stop()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane with KEDA at work."""
    require("helm", "kwok", "etcd", "stages", *COMPONENTS, *KEDA_PROGRAMS, "CRDs of keda")
    with running_cluster(tools(), tmp_path_factory.mktemp("cluster")) as running:
        apply_crds(running, "keda")
        running.kubectl("create", "namespace", NAMESPACE)
        eventually(lambda: running.items("serviceaccounts", namespace=NAMESPACE))
        for name in ("sql", "s3", "s3-sealed"):
            running.kubectl("create", "secret", "generic", name, "--namespace", NAMESPACE, "--from-literal=key=value")
        with running_keda(running, running.kubeconfig.parent / "keda"):
            yield running


@pytest.fixture
def scene(cluster: Cluster, broker: Broker, tmp_path: Path) -> Iterator[Scene]:
    """The chart installed with topics of its own, and every service that scales at zero."""
    with released(cluster, broker.bootstrap, prefix=f"t{secrets.token_hex(3)}.", folder=tmp_path) as made:
        yield made


@contextlib.contextmanager
def released(
    cluster: Cluster,
    bootstrap: str,
    *,
    prefix: str,
    folder: Path,
    access: Mapping[str, str] | None = None,
    kafka: Mapping[str, str] | None = None,
) -> Iterator[Scene]:
    """The release while the block runs. access: the bus options used here; kafka: the values that say the same."""
    options = {"name_prefix": prefix, "partition_count": str(PARTITION_COUNT), **(access or {})}
    lay_out_topics(f"kafka:{bootstrap}", options=options, work=folder)
    values = folder / "values.yaml"
    brokers = {"bootstrapServers": bootstrap, "namePrefix": prefix, **(kafka or {})}
    values.write_text(yaml.safe_dump({**VALUES_HERE, "kafka": brokers}))
    files, where = ("-f", VALUES["small"], "-f", values), ("--namespace", NAMESPACE)
    try:
        cluster.helm("install", RELEASE, CHART, *files, *where, "--wait", "--timeout", "300s")
        with contextlib.closing(KafkaBus(bootstrap, options=options)) as bus:
            scene = Scene(cluster, bus)
            eventually(lambda: all(scene.replicas(service) == 0 for service in SCALED))
            yield scene
    finally:
        cluster.helm("uninstall", RELEASE, *where, "--ignore-not-found", "--wait")
        eventually(lambda: not cluster.items("pods,scaledjobs,scaledobjects", namespace=NAMESPACE))


def publish_shards(scene: Scene, count: int) -> int:
    """Shards of one evaluation, as an evaluator gives them out: in one transaction, over the partitions. Gives the lag.

    A transaction leaves a marker in each partition that it wrote, and KEDA counts offsets.
    """
    keys = [f"run/{number}" for number in range(count)]
    scene.bus.publish([envelope(evaluation_pb2.EvaluationShard(), key=key) for key in keys])
    return count + len({partition_of(key) for key in keys})


def publish_batches(scene: Scene, keys: list[str], *, number: int = 0) -> None:
    """Data of several runs, each in a transaction of its own, as generators give it out."""
    for key in keys:
        scene.bus.publish([envelope(intervention_pb2.DataBatchReady(), key=key, number=number)])


def holds(condition: Callable[[], bool], scene: Scene) -> bool:
    """Whether the condition holds now and still does after some looks at the lag."""
    is_so = condition()
    scene.after_polls()
    return is_so and condition()


def test_nine_shards_bring_as_many_evaluators_as_their_lag_asks_for_and_no_other_service(
    scene: Scene, tmp_path: Path
) -> None:
    assert holds(lambda: scene.replicas("evaluator") == 0, scene), "no event, no replica"

    lag = publish_shards(scene, 9)
    assert (lag, math.ceil(lag / 4)) == (16, 4), "nine events and the markers of seven partitions"
    eventually(lambda: scene.replicas("evaluator") == 4)
    assert holds(lambda: scene.replicas("evaluator") == 4, scene), "nobody is scaled further, or in"
    assert {service: scene.replicas(service) for service in SCALED} == {**dict.fromkeys(SCALED, 0), "evaluator": 4}
    assert not scene.jobs()
    assert scene.replicas("gateway") == 1
    assert scene.condition("hpa", "gateway", "AbleToScale") == "True"
    assert scene.condition("hpa", "gateway", "ScalingActive") == "False", "nothing here serves CPU figures"

    with working("evaluator", [evaluation_pb2.EvaluationShard], bus=scene.bus, store=tmp_path) as done:
        eventually(lambda: len(done) == 9)
        eventually(lambda: scene.replicas("evaluator") == 0)
    assert holds(lambda: scene.replicas("evaluator") == 0, scene), "what a worker leaves in the log wakes nobody"


def test_each_training_gets_one_job_and_none_is_taken_away(scene: Scene, tmp_path: Path) -> None:
    first, second, third = keys_apart(3)
    publish_batches(scene, [first, second])
    eventually(lambda: len(scene.job_pods()) >= 2)
    assert holds(lambda: len(scene.jobs()) == 2, scene)

    publish_batches(scene, [third])
    eventually(lambda: len(scene.job_pods()) >= 3)
    assert holds(lambda: len(scene.jobs()) == 3, scene)

    at_work = set(scene.job_pods())
    with working("trainer", [intervention_pb2.DataBatchReady], bus=scene.bus, store=tmp_path) as done:
        eventually(lambda: len(done) == 3)
        assert holds(lambda: set(scene.job_pods()) == at_work, scene), "a lag of nothing takes no job away"
    scene.cluster.kubectl("annotate", "pods", *at_work, "--namespace", NAMESPACE, f"{WORKING}-")
    eventually(lambda: not scene.job_pods())
    assert holds(lambda: len(scene.jobs()) == 3, scene), "jobs that ended are not started again"


def test_a_training_at_work_keeps_events_waiting_on_its_own_partition_alone(scene: Scene) -> None:
    run, other = keys_apart(2)
    publish_batches(scene, [run])
    eventually(lambda: len(scene.job_pods()) == 1)
    publish_batches(scene, [run], number=1)
    assert holds(lambda: len(scene.jobs()) == 1, scene), "a partition is one member's at a time: another would idle"

    scene.bus.publish([envelope(loop_pb2.LoopRequested(), key=other)])
    eventually(lambda: len(scene.job_pods()) >= 2)
    assert holds(lambda: len(scene.jobs()) == 2, scene)


def test_brokers_that_are_away_take_no_evaluator_at_work_away(scene: Scene, broker: Broker, tmp_path: Path) -> None:
    publish_shards(scene, 9)
    eventually(lambda: scene.replicas("evaluator") == 4)
    broker.stop()
    try:
        eventually(lambda: scene.condition("hpa", "evaluator", "ScalingActive") == "False")
        looks = scene.looks_in_vain("evaluator")
        eventually(lambda: scene.looks_in_vain("evaluator") >= looks + 3 * COOLDOWN_S)
        assert {name: scene.replicas(name) for name in SCALED} == {**dict.fromkeys(SCALED, 0), "evaluator": 4}
    finally:
        broker.start()
    with working("evaluator", [evaluation_pb2.EvaluationShard], bus=scene.bus, store=tmp_path) as done:
        eventually(lambda: len(done) == 9)
        eventually(lambda: scene.replicas("evaluator") == 0)


def test_brokers_that_want_a_password_and_tls_are_asked_as_well(cluster: Cluster, tmp_path: Path) -> None:
    prefix, secret = "team-a.", "kafka-access"
    require_java()
    with secured_broker(tmp_path / "broker", prefix=prefix) as secured:
        keys = (f"--from-literal=username={SERVICE}", f"--from-literal=password={PASSWORDS[SERVICE]}")
        files = (f"--from-file=ca.crt={secured.authority}", "--namespace", NAMESPACE)
        cluster.kubectl("create", "secret", "generic", secret, *keys, *files)
        kafka = {"securityProtocol": "SASL_SSL", "existingSecret": secret, "caKey": "ca.crt"}
        with released(
            cluster, secured.bootstrap, prefix=prefix, folder=tmp_path, access=secured.options(), kafka=kafka
        ) as scene:
            publish_shards(scene, 9)
            eventually(lambda: scene.replicas("evaluator") == 4)
            with working("evaluator", [evaluation_pb2.EvaluationShard], bus=scene.bus, store=tmp_path) as done:
                eventually(lambda: len(done) == 9)
                eventually(lambda: scene.replicas("evaluator") == 0)
