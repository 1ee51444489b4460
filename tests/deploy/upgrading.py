"""A namespace with a release in it, as its operators and users see it: runs, events, a key, a session, a webhook."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import psycopg
import yaml
from deploy.pods import Pods
from google.protobuf.message import Message
from kafka import KafkaAdminClient, TopicPartition
from receivers import Receiver, receiving
from releases import Release
from waiting import wait_until

from mendloop.artifacts.store import ArtifactStore
from mendloop.bus.kafka import KafkaBus
from mendloop.bus.receipts import StoredReceipts
from mendloop.client.blocking import Client
from mendloop.core.contracts import SERVICES, TRAINER, consumed_by, contract_of, decode
from mendloop.report.summary import Document, summarize
from mendloop.runs.fold import run_of
from mendloop.runs.log import RunLog
from mendloop.runs.stream import LogReader
from mendloop.v1 import checkpoint_pb2

RUN_S = 1800.0
SHARDS = 4


def recipe(*, steps: int) -> dict[str, Any]:
    """SCAN's shipped scenario "data in" with fewer items: a fix is found, trained and promoted."""
    shipped = files("mendloop.examples.scan").joinpath("recipes", "scan-data.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(shipped)
    found["suite"] |= {"search": 240, "confirm": 120, "sealed": 120, "shards": SHARDS}
    found["fix"] |= {"steps": steps, "save_steps": 20}
    found["gates"]["margin"] = 0.15  # fewer items show less
    return found


@dataclass(frozen=True, slots=True)
class Told:
    """What a run left, without what a second one may have otherwise: ids and times."""

    outcome: str
    decision: str
    verdicts: tuple[tuple[str, str], ...]
    checkpoint: str
    events: Counter[tuple[str, int]]
    """How many events of a type and round."""


@dataclass(slots=True)
class Namespace:
    """A release at work, and what was made in it."""

    pods: Pods
    broker: str
    prefix: str
    """Of its topics and groups."""
    bus: KafkaBus
    store: ArtifactStore
    receiver: Receiver
    token: str = ""
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str = ""
    deeds: list[dict[str, Any]] = field(default_factory=list)

    def client(self) -> Client:
        """A client with the key of the first release."""
        return Client(self.pods.running["gateway"].urls["http"], token=self.token)

    def get(self, path: str, **params: str) -> Any:
        """A page of the gateway, asked with that key."""
        url = self.pods.running["gateway"].urls["http"]
        answer = httpx.get(f"{url}/v1{path}", params=params, headers={"authorization": f"Bearer {self.token}"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def settle_in(self, release: Release) -> None:
        """Make a key as the operator does, sign in, and ask for a webhook."""
        words = ("-m", "mendloop.cli", "keys", "create", "ops", "--scope", "admin")
        self.token = self.pods.run(release, "gateway", *words).splitlines()[-1]
        url = self.pods.running["gateway"].urls["http"]
        signed = httpx.post(f"{url}/v1/session", json={"token": self.token})
        self.cookies, self.csrf = dict(signed.cookies), signed.json()["csrf_token"]
        hook = httpx.post(
            f"{url}/v1/webhooks", json={"url": self.receiver.url}, headers={"authorization": f"Bearer {self.token}"}
        )
        assert hook.status_code == 201, hook.text
        self.deeds = self.get("/audit")["entries"]
        assert len(self.deeds) >= 3

    def start(self, *, steps: int) -> str:
        """Ask for a run; its id."""
        with self.client() as client:
            return client.start_run(recipe(steps=steps)).run_id

    def await_finished(self, run_id: str) -> None:
        """Wait until a run is over, with every pod alive."""
        self.await_state(run_id, "finished")

    def await_state(self, run_id: str, *states: str) -> None:
        """Wait until a run is in one of the states, with every pod alive."""

        def reached() -> bool:
            self.pods.check()
            state: str = self.get(f"/runs/{run_id}")["state"]
            assert state != "finished" or state in states, "the run was over before it could be disturbed"
            return state in states

        wait_until(reached, deadline_s=RUN_S, every_s=0.1)

    def committed(self, run_id: str) -> list[Any]:
        """The run's events in the log; fails where the log holds one twice."""
        reader, found, is_more = LogReader(self.bus), [], True
        while is_more:
            events, is_more = reader.next()
            found += [event for event in events if run_of(event.message) == run_id]
        assert reader.dropped["repeated"] == 0, f"the log holds events twice: {reader.dropped}"
        return found

    def listed(self, run_id: str) -> list[str]:
        """Ids of the run's events as the gateway lists them."""
        ids, cursor, is_end = [], "", False
        while not is_end:
            page = self.get(f"/runs/{run_id}/events", cursor=cursor, limit="100")
            ids += [event["headers"]["ce_id"] for event in page["events"]]
            cursor, is_end = page["next_cursor"], page["is_end"]
        return ids

    def pauses(self, run_id: str) -> dict[str, float]:
        """Seconds from the beginning of each service's replacement to the run's next event; without those after it."""
        times = sorted(event.envelope.made_at or 0.0 for event in self.committed(run_id))
        return {
            rolled.service: round(next(at for at in times if at > rolled.began_at) - rolled.began_at, 1)
            for rolled in self.pods.rolled
            if times[-1] > rolled.began_at
        }

    def lose(self, event_type: type[Message]) -> None:
        """Delete every event of a type from the log, as a broker that loses data would."""
        topic = self.prefix + contract_of(event_type).topic
        with KafkaAdminClient(bootstrap_servers=[self.broker]) as admin:
            (found,) = admin.describe_topics([topic])
            places = [TopicPartition(topic, part["partition_index"]) for part in found["partitions"]]
            admin.delete_records(dict.fromkeys(places, -1))  # -1: all that there are

    def told(self, run_id: str) -> Told:
        """What the run left."""
        document = self.document(run_id)
        return Told(
            document["outcome"],
            document["gate_decision"],
            tuple(sorted((v["slice"], v["cause"]) for v in document["verdicts"])),
            document["checkpoint"],
            self.kinds(run_id),
        )

    def kinds(self, run_id: str) -> Counter[tuple[str, int]]:
        """How many events of a type and round the log holds."""
        events = self.committed(run_id)
        return Counter((event.message.DESCRIPTOR.name, event.message.position.round) for event in events)

    def document(self, run_id: str) -> Document:
        """The run as its report has it."""
        log = RunLog(self.bus, store=self.store)
        log.refresh()
        view = log.view(run_id)
        assert view is not None
        return summarize(view, store=self.store)

    def trainings(self) -> list[str]:
        """Hashes of the reports of finished trainings, by the trainer's receipts."""
        receipts = StoredReceipts(self.store)
        outputs = [
            envelope
            for event_id in self.store.doc_names(f"receipts/{TRAINER}")
            for envelope in receipts.find(TRAINER, event_id) or ()
        ]
        made = [decode(envelope.event_type, envelope.value) for envelope in outputs]
        ready = [message for message in made if isinstance(message, checkpoint_pb2.CheckpointReady)]
        return [message.training_report.sha256 for message in ready if message.training_report.sha256]

    def lags(self) -> dict[str, int]:
        """Events that no service has worked off."""
        return {service: self.bus.lag(service, consumed_by(service)) for service in SERVICES if service != "gateway"}


@contextmanager
def namespace(folder: Path, *, broker: str, postgres: str, more: Sequence[str] = ()) -> Iterator[Namespace]:
    """An empty namespace: a prefix of its own on the broker, a database of its own, stores in the folder."""
    name = f"u{secrets.token_hex(4)}"
    database = _new_database(postgres, name)
    hooks = {"MENDLOOP_WEBHOOK_ALLOW_HTTP": "true", "MENDLOOP_WEBHOOK_ALLOWED_NETWORKS": '["127.0.0.0/8"]'}
    claims = {"existingClaim": "artifacts", "sealedExistingClaim": "sealed"}
    stores = {"uri": "file:///artifacts", "sealedUri": "file:///sealed", **claims}
    values = {
        "kafka": {"bootstrapServers": broker, "namePrefix": f"{name}."},
        "database": {"url": database, "existingSecret": ""},
        "artifacts": {**stores, "existingSecret": "", "sealedExistingSecret": ""},
        "services.gateway.config": hooks,
    }
    settings = (*(f"{path}={json.dumps(value)}" for path, value in values.items()), *more)
    bus = KafkaBus(broker, options={"name_prefix": f"{name}."})
    with receiving() as receiver:
        pods = Pods(folder, settings)
        try:
            yield Namespace(pods, broker, f"{name}.", bus, ArtifactStore(folder / "claims" / "artifacts"), receiver)
        finally:
            pods.stop()
            bus.close()


def _new_database(server: str, name: str) -> str:
    """A new database on a server that trusts; its URL."""
    with psycopg.connect(server.replace("postgresql+psycopg", "postgresql"), autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]  # a name of our own making
    return server.replace("@/postgres?", f"@/{name}?")
