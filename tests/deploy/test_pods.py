"""What pods may do and what they know: users, root, tokens, credentials, networks, accelerators."""

from __future__ import annotations

import pytest
from deploy.chart import (
    RELEASE,
    VALUES,
    Manifest,
    environment_of,
    of_kind,
    pod_specs,
    rendered,
)

from mendloop.core.contracts import SERVICES

SEALED_READERS = {"evaluator", "gateway"}


@pytest.fixture(params=sorted(VALUES))
def values(request: pytest.FixtureRequest) -> str:
    """Each values file."""
    return request.param


def our_pods(values: str) -> dict[str, Manifest]:
    """Pods of ours: all but the single-node stores that are for trying."""
    return {name: spec for name, spec in pod_specs(rendered(values)).items() if not name.startswith("StatefulSet")}


def containers(values: str) -> list[Manifest]:
    return [c for spec in our_pods(values).values() for c in spec["containers"]]


def test_no_pod_runs_as_root_or_outside_the_default_seccomp_profile(values: str) -> None:
    for spec in pod_specs(rendered(values)).values():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_no_container_can_write_to_its_root_or_gain_privileges(values: str) -> None:
    for container in containers(values):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}


def test_what_a_service_writes_to_is_mounted(values: str) -> None:
    for container in containers(values):
        if container["name"] == "ready":
            continue  # the test pod writes nothing
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"/work", "/tmp"} <= mounted


def test_no_pod_gets_a_token_of_the_cluster(values: str) -> None:
    manifests = rendered(values)
    assert all(spec["automountServiceAccountToken"] is False for spec in pod_specs(manifests).values())
    accounts = of_kind(manifests, "ServiceAccount")
    assert set(accounts) == set(SERVICES)
    assert all(account["automountServiceAccountToken"] is False for account in accounts.values())


def test_every_container_has_requests_and_a_limit_of_memory(values: str) -> None:
    for container in containers(values):
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]


def test_services_are_probed_and_models_get_time_to_load(values: str) -> None:
    pods = {name: spec for name, spec in our_pods(values).items() if name.startswith(("Deployment", "ScaledJob"))}
    assert len(pods) >= len(SERVICES)
    for spec in pods.values():
        container = spec["containers"][0]
        assert container["livenessProbe"]["httpGet"]["path"] in {"/healthz", "/health"}
        assert container["readinessProbe"]["httpGet"]["path"] in {"/readyz", "/health"}
        startup = container["startupProbe"]
        needed_s = 900 if container["name"] in {"evaluator", "diagnostician", "trainer"} else 300
        assert startup["periodSeconds"] * startup["failureThreshold"] >= needed_s


def test_trainer_gets_the_time_that_its_resume_point_may_take() -> None:
    from mendloop.trainer.adapters.processes import STOP_S

    spec = pod_specs(rendered("small"))[f"Deployment/{RELEASE}-mendloop-trainer"]
    assert spec["terminationGracePeriodSeconds"] > STOP_S


def test_only_evaluator_and_gateway_know_the_sealed_store() -> None:
    for values in VALUES:
        for service in SERVICES:
            environment = environment_of(rendered(values), service)
            assert ("MENDLOOP_SEALED_ARTIFACTS_URI" in environment) == (service in SEALED_READERS)
    for service in SERVICES:
        key = environment_of(rendered("example"), service)["AWS_SECRET_ACCESS_KEY"]["secretKeyRef"]["name"]
        assert key == ("mendloop-s3-sealed" if service in SEALED_READERS else "mendloop-s3")


def test_sealed_claim_is_mounted_by_evaluator_and_gateway_alone() -> None:
    mounting = {
        name.rsplit("mendloop-")[-1]
        for name, spec in our_pods("dev").items()
        if "sealed" in str(spec.get("volumes", ""))
    }
    assert mounting == SEALED_READERS


def test_only_controller_and_gateway_know_the_database(values: str) -> None:
    for service in SERVICES:
        assert ("MENDLOOP_DATABASE_URL" in environment_of(rendered(values), service)) == (
            service in {"controller", "gateway"}
        )


def test_gpus_and_mig_slices_are_asked_for_by_their_resource_name() -> None:
    pods = pod_specs(rendered("example"))
    limits = {
        name.rsplit("mendloop-")[-1]: spec["containers"][0]["resources"].get("limits", {})
        for name, spec in pods.items()
    }
    assert limits["evaluator"]["nvidia.com/gpu"] == 1
    assert limits["diagnostician"]["nvidia.com/mig-2g.20gb"] == 1
    assert limits["trainer"]["nvidia.com/gpu"] == 4
    assert not any(resource.startswith("nvidia") for resource in limits["controller"])


def test_a_drain_takes_one_pod_of_a_service_at_a_time() -> None:
    budgets = of_kind(rendered("small"), "PodDisruptionBudget")
    assert set(budgets) == set(SERVICES)
    assert all(budget["spec"]["maxUnavailable"] == 1 for budget in budgets.values())


def test_everything_that_is_not_allowed_is_denied() -> None:
    policies = of_kind(rendered("small"), "NetworkPolicy")
    deny = policies["deny"]["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(deny)
    assert "app.kubernetes.io/component" not in deny["podSelector"]["matchLabels"]


def test_database_is_reached_by_controller_gateway_and_hooks_alone() -> None:
    policies = of_kind(rendered("small"), "NetworkPolicy")
    reaching = [
        p
        for p in policies.values()
        if 5432 in [port["port"] for rule in p["spec"].get("egress", []) for port in rule.get("ports", [])]
    ]
    assert [p["metadata"]["name"] for p in reaching] == [f"{RELEASE}-mendloop-sql"]
    assert reaching[0]["spec"]["podSelector"]["matchExpressions"][0]["values"] == ["controller", "gateway", "hook"]


def test_broker_for_trying_reaches_itself_by_name() -> None:
    # It writes transactions' markers to its own advertised address: denied, no transaction would ever end.
    dev = of_kind(rendered("dev"), "NetworkPolicy")["dev"]["spec"]
    assert dev["policyTypes"] == ["Ingress", "Egress"]
    ports = {port["port"] for rule in dev["egress"] for port in rule["ports"]}
    assert ports == {53, 9092}
    itself = next(rule for rule in dev["egress"] if rule["ports"][0]["port"] == 9092)
    assert itself["to"][0]["podSelector"]["matchLabels"]["mendloop/dev"] == "kafka"


def test_no_service_is_process_1_of_its_container(values: str) -> None:
    specs = {name: spec for name, spec in our_pods(values).items() if name.rpartition("mendloop-")[2] in SERVICES}
    assert len(specs) == len(SERVICES)
    assert all(spec["shareProcessNamespace"] is True for spec in specs.values())
