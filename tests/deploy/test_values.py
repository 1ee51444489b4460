"""What the chart refuses, and that it says why: typos, plain passwords, credentials of sealed items in wrong hands."""

from __future__ import annotations

import pytest
from deploy.chart import Refused, environment_of, rendered

REFUSED = {
    "a misspelt value": ('kafka.bootstrapServer="k:1"', "bootstrapServer"),
    "a misspelt value of a service": ("services.evaluator.replica=2", "replica"),
    "a service that does not exist": ("services.evaluater={}", "evaluater"),
    "an unknown setting": ('services.evaluator.config={"MENDLOOP_LOGLEVEL":"DEBUG"}', "MENDLOOP_LOGLEVEL"),
    "a setting that the chart sets itself": ('config={"MENDLOOP_BUS":"local:x"}', "MENDLOOP_BUS"),
    "a secret among the settings": ('config={"MENDLOOP_VLLM_API_KEY":"k"}', "MENDLOOP_VLLM_API_KEY"),
    "a number of GPUs that is none": ('services.trainer.gpu={"count":"many"}', "count"),
    "brokers without a port": ('kafka.bootstrapServers="kafka"', "bootstrapServers"),
    "a digest that is none": ('services.trainer.image.digest="sha256:12"', "digest"),
    "a password among the options of Kafka": (
        'kafka.options={"sasl_plain_password":"x"}',
        "put it into kafka.existingSecret",
    ),
    "a password in the database's URL": ('database={"url":"postgresql://u:p@h/d"}', "database.url holds a password"),
    "SASL without a secret": ('kafka.securityProtocol="SASL_SSL"', "kafka.existingSecret is empty"),
    "sealed items among the artifacts": ('artifacts.sealedUri="s3://a/b/sealed"', "lies in artifacts.uri"),
    "one credential for both stores": ('artifacts.sealedExistingSecret="s3"', "data generator would hold"),
    "a queue of jobs for another service": ('services.evaluator.kind="jobs"', "only the trainer"),
    "a service of no replica": ("services.evaluator.replicas=0", "enabled: false"),
    "more replicas than partitions": (
        'services.evaluator.scaling={"by":"keda","max":9}',
        "above topics.partitionCount",
    ),
    "fewer at most than at least": ('services.evaluator.scaling={"by":"hpa","min":5,"max":2}', "above its max"),
    "a lag of the gateway, which has none": ('services.gateway.scaling={"by":"keda"}', "use hpa"),
    "settings among the environment": (
        'services.trainer.env=[{"name":"MENDLOOP_BUS","value":"x"}]',
        "settings go into",
    ),
    "a teacher without a model": ("teacher.enabled=true", "teacher.model is empty"),
    "an ingress without a host": ("gateway.ingress.enabled=true", "hosts is empty"),
    "a route without a gateway": ("gateway.route.enabled=true", "parentRefs is empty"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_chart_refuses(case: str) -> None:
    setting, reason = REFUSED[case]
    with pytest.raises(Refused) as refusal:
        rendered("small", setting)
    assert reason in str(refusal.value)


def test_refusals_come_together_and_not_one_by_one() -> None:
    with pytest.raises(Refused) as refusal:
        rendered("small", 'kafka={"bootstrapServers":""}', 'database={"existingSecret":""}')
    assert "2 mistake(s)" in str(refusal.value)


def test_a_secret_setting_may_come_from_a_secret() -> None:
    reference = '{"name":"MENDLOOP_VLLM_API_KEY","valueFrom":{"secretKeyRef":{"name":"vllm","key":"key"}}}'
    manifests = rendered("small", f"services.evaluator.env=[{reference}]")
    assert environment_of(manifests, "evaluator")["MENDLOOP_VLLM_API_KEY"]["secretKeyRef"]["name"] == "vllm"
