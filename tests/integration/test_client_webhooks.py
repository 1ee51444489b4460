"""Webhooks through both clients, against a gateway behind a real socket and a real receiver."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from gateways import LOCAL_TOKEN, Parts, gateway
from live_gateway import live
from receivers import Receiver, receiving
from run_events import data_run
from standardwebhooks.webhooks import Webhook as Verifier
from waiting import wait_until

from mendloop import AsyncClient, Client
from mendloop.client import Invalid, NotFound
from mendloop.gateway.adapters.hook_desk import Limits
from mendloop.gateway.adapters.webhooks import WebhookOptions
from mendloop.gateway.domain.addresses import networks_of


class Blocking:
    """The webhooks of a Client."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            with Client(self._url, token=LOCAL_TOKEN) as client:
                found = getattr(client.webhooks, name)(*arguments, **options)
                return list(found) if inspect.isgenerator(found) else found

        return call


class Awaited:
    """The webhooks of an AsyncClient, with the methods of the other."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def work(*arguments: Any, **options: Any) -> Any:
            async with AsyncClient(self._url, token=LOCAL_TOKEN) as client:
                found = getattr(client.webhooks, name)(*arguments, **options)
                return [part async for part in found] if inspect.isasyncgen(found) else await found

        return lambda *arguments, **options: asyncio.run(work(*arguments, **options))


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Parts, str]]:
    options = WebhookOptions(
        allowed_networks=networks_of(["127.0.0.0/8"]), limits=Limits(allows_http=True), timeout_s=5.0
    )
    parts = gateway(Path(tmp_path_factory.mktemp("gateway")), webhooks=options)
    with live(parts) as url:
        yield parts, url


@pytest.fixture(params=[Blocking, Awaited])
def webhooks(request: pytest.FixtureRequest, served: tuple[Parts, str]) -> Any:
    return request.param(served[1])


def test_webhook_is_created_once_listed_changed_and_deleted(webhooks: Any, receiver: Receiver) -> None:
    key = f"{type(webhooks).__name__}-once"
    made = webhooks.create(receiver.url, description="alerts", types=["EvalFailed"], slices=["verb=jump"], key=key)
    again = webhooks.create(receiver.url, description="alerts", types=["EvalFailed"], slices=["verb=jump"], key=key)
    assert (again.webhook_id, again.secret) == (made.webhook_id, made.secret)
    assert made.secret not in repr(made)
    assert "secret" not in made.document
    with pytest.raises(Invalid, match=made.webhook_id):
        webhooks.create(receiver.url, key=key)
    assert made.webhook_id in [hook.webhook_id for hook in webhooks.list()]
    assert webhooks.page(limit=1).webhooks
    changed = webhooks.update(made.webhook_id, filter={"runs": ["r1"]})
    assert (changed.runs, changed.types, changed.description, changed.secret) == (("r1",), (), "alerts", "")
    assert webhooks.disable(made.webhook_id, reason="noise").disabled_reason == "noise"
    assert webhooks.enable(made.webhook_id).state == "delivering"
    assert webhooks.delete(made.webhook_id) is None
    with pytest.raises(NotFound):
        webhooks.get(made.webhook_id)


def test_refused_webhook_names_its_field(webhooks: Any, receiver: Receiver) -> None:
    with pytest.raises(Invalid) as refused:
        webhooks.create("https://169.254.169.254/")
    assert refused.value.faults[0].field == "url"
    with pytest.raises(ValueError, match="types is 'EvalFailed'"):
        webhooks.create(receiver.url, types="EvalFailed")
    with pytest.raises(ValueError, match="webhook_id"):
        webhooks.get("")


def test_delivered_events_are_logged_and_replayed(webhooks: Any, served: tuple[Parts, str], receiver: Receiver) -> None:
    run_id = f"r-{type(webhooks).__name__}"
    made = webhooks.create(receiver.url, runs=[run_id], types=["EvalFailed"])
    turned = webhooks.rotate_secret(made.webhook_id)
    assert turned.secret not in ("", made.secret)
    tested = webhooks.test(made.webhook_id)
    assert (tested.result, tested.is_test) == ("delivered", True)
    served[0].bus.publish(data_run(run_id))
    wait_until(lambda: webhooks.get(made.webhook_id).delivered_count == 2)
    for secret in (made.secret, turned.secret):
        Verifier(secret).verify(receiver.posts[-1].body, dict(receiver.posts[-1].headers))
    page = webhooks.deliveries(made.webhook_id, limit=2)
    tries = [*page.deliveries, *webhooks.deliveries(made.webhook_id, cursor=page.next_cursor).deliveries]
    assert [(one.event_id, one.run_id) for one in tries[:2]] == [(f"{run_id}/6", run_id), (f"{run_id}/5", run_id)]
    webhooks.replay(made.webhook_id, datetime(2026, 1, 1, tzinfo=UTC))
    wait_until(lambda: webhooks.get(made.webhook_id).delivered_count == 4)
    webhooks.delete(made.webhook_id)
