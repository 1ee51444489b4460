"""How services scale: on the lag of their topics, each by itself, and never a training away."""

from __future__ import annotations

from deploy.chart import (
    environment_of,
    of_kind,
    rendered,
)

SEALED_READERS = {"evaluator", "gateway"}


def test_each_service_scales_on_the_lag_of_each_topic_that_it_reads() -> None:
    from mendloop.core.contracts import consumed_by

    for service, scaled in of_kind(rendered("example"), "ScaledObject").items():
        triggers = [trigger["metadata"] for trigger in scaled["spec"]["triggers"]]
        assert [trigger["topic"] for trigger in triggers] == [f"team-a.{topic}" for topic in consumed_by(service)]
        assert {trigger["consumerGroup"] for trigger in triggers} == {f"team-a.{service}"}
        assert {trigger["offsetResetPolicy"] for trigger in triggers} == {"earliest"}
        assert {trigger["limitToPartitionsWithLag"] for trigger in triggers} == {"true"}
        assert scaled["spec"]["minReplicaCount"] == 0


def test_a_deployment_that_something_scales_leaves_its_replicas_alone() -> None:
    assert "replicas" not in of_kind(rendered("example"), "Deployment")["evaluator"]["spec"]


def test_a_training_is_a_job_that_nothing_scales_in() -> None:
    manifests = rendered("example")
    scaled = of_kind(manifests, "ScaledJob")["trainer"]["spec"]
    assert "trainer" not in of_kind(manifests, "Deployment")
    assert "trainer" not in of_kind(manifests, "ScaledObject")
    assert scaled["rollout"]["strategy"] == "gradual"
    assert scaled["scalingStrategy"]["multipleScalersCalculation"] == "sum"
    assert float(environment_of(manifests, "trainer")["MENDLOOP_EXIT_WHEN_IDLE_S"]) > 0
    annotations = scaled["jobTargetRef"]["template"]["metadata"]["annotations"]
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"


def test_a_job_waits_longer_for_an_event_than_a_retry_is_put_off() -> None:
    from mendloop.bus.runtime import RetryPolicy

    assert float(environment_of(rendered("example"), "trainer")["MENDLOOP_EXIT_WHEN_IDLE_S"]) > RetryPolicy().cap_s


def test_hpa_takes_over_where_there_is_no_keda() -> None:
    manifests = rendered("small", 'services.evaluator.scaling={"by":"hpa","max":3}')
    assert not of_kind(manifests, "ScaledObject")
    spec = of_kind(manifests, "HorizontalPodAutoscaler")["evaluator"]["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 3)
