"""The webhooks of one gateway, put together: the tables, the desk for people, and the courier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
from anyio import to_thread
from sqlalchemy import Engine

from mendloop.bus.base import Log
from mendloop.core.telemetry import Telemetry
from mendloop.gateway.adapters.hook_courier import Courier
from mendloop.gateway.adapters.hook_desk import HookDesk, Limits
from mendloop.gateway.adapters.hook_round import Rules
from mendloop.gateway.adapters.hook_rows import Sealing
from mendloop.gateway.adapters.hook_sending import Gate, Resolve, Sender
from mendloop.gateway.adapters.hook_store import HookStore
from mendloop.gateway.domain.addresses import Network
from mendloop.gateway.feed import Feed

TEST_CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class WebhookOptions:
    """What a deployment sets; keys are Fernet keys, resolve replaces the system's names (for tests)."""

    allowed_networks: Sequence[Network] = ()
    keys: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)
    rules: Rules = field(default_factory=Rules)
    timeout_s: float = 15.0
    owner: str = ""
    resolve: Resolve | None = None


class Webhooks:
    """Desk and courier over one database. Starts and stops with the app."""

    def __init__(
        self, engine: Engine, *, feed: Feed, history: Log, telemetry: Telemetry, options: WebhookOptions
    ) -> None:
        self.store = HookStore(engine, sealing=Sealing(options.keys))
        tls = httpx.create_ssl_context()
        gate = Gate(options.allowed_networks, resolve=options.resolve)
        self.courier = Courier(
            self.store,
            feed=feed,
            history=history,
            make_sender=lambda: Sender(gate, timeout_s=options.timeout_s, connection_limit=1, tls=tls),
            telemetry=telemetry,
            rules=options.rules,
            owner=options.owner,
        )
        self._sender = Sender(gate, timeout_s=options.timeout_s, connection_limit=TEST_CONNECTIONS, tls=tls)
        self.desk = HookDesk(
            self.store,
            feed=feed,
            gate=gate,
            sender=self._sender,
            telemetry=telemetry,
            limits=options.limits,
            wake=self.courier.wake,
        )

    def start(self) -> None:
        """Begin to deliver."""
        self.courier.start()

    async def stop(self) -> None:
        """End deliveries in order."""
        await to_thread.run_sync(self.courier.stop)
        await self._sender.close()
