"""From the release before to this one with a run at work, and back: nothing is lost, nothing is done twice.

Both releases run as their own charts say, as processes, on a real Kafka broker and a real PostgreSQL.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest
from deploy.upgrading import RUN_S, SHARDS, Namespace, Told, namespace
from postgres import postgres_url
from releases import THIS, Release, previous
from run_events import data_run
from waiting import wait_until

from mendloop.core.contracts import CONTROLLER, EVALUATOR, GATEWAY, SERVICES, TRAINER
from mendloop.v1.diagnosis_pb2 import DiagnosisReady

pytestmark = [pytest.mark.deploy, pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(3600)]
__all__ = ["postgres_url"]
STEPS, OTHER_STEPS = 300, 280
KEEP_SQL = (CONTROLLER, GATEWAY)
KEPT_WORK = 'services.trainer.work.existingClaim="resume-points"'
Open = Callable[..., AbstractContextManager[Namespace]]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The release before this one."""
    return previous(tmp_path_factory.mktemp("before"))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, kafka_bootstrap: str, postgres_url: str) -> Open:
    """Opens an empty namespace."""

    def new(*more: str) -> AbstractContextManager[Namespace]:
        folder = tmp_path_factory.mktemp("namespace")
        return namespace(folder, broker=kafka_bootstrap, postgres=postgres_url, more=more)

    return new


@pytest.fixture(scope="module")
def undisturbed(before: Release, opened: Open) -> Told:
    """The run on the release before, left alone."""
    with opened() as place:
        place.pods.install(before)
        place.settle_in(before)
        run_id = place.start(steps=STEPS)
        place.await_finished(run_id)
        return place.told(run_id)


@pytest.fixture(scope="module")
def upgraded(before: Release, opened: Open) -> Iterator[tuple[Namespace, str]]:
    """A namespace that was upgraded while its trainer trained, and the run, which is over."""
    with opened(KEPT_WORK) as place:
        yield place, run_through_upgrade(place, before, disturb=TRAINER)


def run_through_upgrade(place: Namespace, before: Release, *, disturb: str) -> str:
    """Install the release before, start a run, upgrade to this one with the named service first; the run when over."""
    place.pods.install(before)
    place.settle_in(before)
    run_id = place.start(steps=STEPS)
    place.pods.run_hooks(THIS)  # from here the old code works on the new schema
    roll_all(place, run_id, to=THIS, disturb=disturb)
    place.await_finished(run_id)
    tell_pauses(place, run_id, disturbed=disturb)
    return run_id


def tell_pauses(place: Namespace, run_id: str, *, disturbed: str) -> None:
    """What docs/deploy.md says of pauses, with `pytest -s`."""
    for rolled in place.pods.rolled:
        print(f"\nupgrade while the {disturbed} works: {rolled}", end="")
    print(f"\nseconds to the run's next event: {place.pauses(run_id)}")


def roll_all(place: Namespace, run_id: str, *, to: Release, disturb: str) -> None:
    """Replace the service that is in the middle of its work, then the other workers, then those that keep SQL: in
    between, workers of one release work for the controller of the other. Kubernetes begins with all at once."""
    (await_training if disturb == TRAINER else await_scoring)(place, run_id)
    went = place.pods.roll(disturb, to)
    assert disturb == EVALUATOR or "work given back" in went.said()
    for wave in ([service for service in SERVICES if service not in (disturb, *KEEP_SQL)], KEEP_SQL):
        with ThreadPoolExecutor() as hands:
            list(hands.map(lambda service: place.pods.roll(service, to), wave))
    place.pods.check()


def await_training(place: Namespace, run_id: str) -> None:
    """Wait until the trainer is well within a training."""
    place.await_state(run_id, "training")
    trainer = place.pods.running[TRAINER]
    wait_until(lambda: trainer.metric("mendloop_training_step") >= 50, deadline_s=RUN_S, every_s=0.1)


def await_scoring(place: Namespace, run_id: str) -> None:
    """Wait until the evaluator has scored some shards of the candidate and not all."""
    evaluator = place.pods.running[EVALUATOR]

    def scored() -> float:
        return evaluator.metric("mendloop_events_handled_total", 'EvaluationShard"', 'result="ok"')

    place.await_state(run_id, "training", "evaluating")
    of_base = SHARDS
    assert of_base < wait_until(lambda: (n := scored()) > of_base and n, deadline_s=RUN_S) < 2 * SHARDS


def assert_nothing_lost(place: Namespace, run_id: str, *, trainings: int) -> None:
    """Every event is told once and was worked off, every training was done once."""
    assert_told_once(place, run_id)
    assert place.document(run_id)["dead_letters"] == []
    wait_until(lambda: not any(place.lags().values()), deadline_s=30)
    reports = place.trainings()
    assert len(reports) == len(set(reports)) == len(place.store.doc_names("jobs")) == trainings


def assert_told_once(place: Namespace, run_id: str, *, webhook_s: float = 60.0) -> None:
    """Log, gateway and webhook tell the same events: log and gateway each once, the webhook always with one body."""
    ids = sorted(event.envelope.event_id for event in place.committed(run_id))
    wait_until(lambda: sorted(place.listed(run_id)) == ids, deadline_s=30)
    delivered = wait_until(lambda: set(ids) <= set(place.receiver.ids()) and place.receiver.posts, deadline_s=webhook_s)
    of_run = [post for post in delivered if post.event_id in set(ids)]
    assert len({(post.event_id, post.body) for post in of_run}) == len(ids), "an event came with two bodies"


def assert_access_is_kept(place: Namespace) -> None:
    """Key, session, webhook and audit log of the release before are those of this one."""
    url = place.pods.running["gateway"].urls["http"]
    assert place.get("/me")["scopes"] == ["read", "run", "approve", "admin"]
    assert httpx.get(f"{url}/v1/session", cookies=place.cookies).json() == {"csrf_token": place.csrf}
    assert [hook["state"] for hook in place.get("/webhooks")["webhooks"]] == ["delivering"]
    kept = {deed["entry"]: deed for deed in place.get("/audit")["entries"]}
    assert [kept.get(deed["entry"]) for deed in place.deeds] == place.deeds


def test_both_releases_run_their_own_code(before: Release, opened: Open) -> None:
    with opened() as place:
        for release in (before, THIS):
            where = place.pods.run(release, TRAINER, "-c", "import mendloop.bus; print(mendloop.bus.__file__)")
            assert Path(where).is_relative_to(release.services)


def test_upgrade_while_the_trainer_trains(upgraded: tuple[Namespace, str], undisturbed: Told) -> None:
    place, run_id = upgraded
    assert place.told(run_id) == undisturbed
    assert undisturbed.decision == "promoted"
    assert_nothing_lost(place, run_id, trainings=1)
    assert_access_is_kept(place)
    started = [
        json.loads(line) for line in place.pods.running[TRAINER].said().splitlines() if "training starts" in line
    ]
    assert [line["from_step"] >= 20 for line in started] == [True], "it did not go on from the older release's point"


def test_rollback_in_the_middle_of_the_next_run(upgraded: tuple[Namespace, str], before: Release) -> None:
    place, _ = upgraded
    run_id = place.start(steps=OTHER_STEPS)
    roll_all(place, run_id, to=before, disturb=TRAINER)
    place.await_finished(run_id)
    assert place.told(run_id).decision == "promoted"
    assert_nothing_lost(place, run_id, trainings=2)
    assert_access_is_kept(place)


def test_upgrade_while_the_evaluator_scores(before: Release, opened: Open, undisturbed: Told) -> None:
    with opened() as place:
        run_id = run_through_upgrade(place, before, disturb=EVALUATOR)
        assert place.told(run_id) == undisturbed
        assert_nothing_lost(place, run_id, trainings=1)
        assert_access_is_kept(place)


def test_what_is_lost_is_seen(opened: Open) -> None:
    """The checks above can fail: a webhook that missed an event, a log that lost some, a pod that was killed."""
    with opened() as place:
        place.pods.run_hooks(THIS)
        place.pods.add(GATEWAY, THIS)
        place.settle_in(THIS)
        place.bus.publish(data_run("r1"))
        wait_until(lambda: place.get("/runs")["runs"], deadline_s=30)
        assert_told_once(place, "r1")

        kept = list(place.receiver.posts)
        place.receiver.posts.pop()
        with pytest.raises(AssertionError, match="not within"):
            assert_told_once(place, "r1", webhook_s=1.0)
        place.receiver.posts[:] = kept

        whole = place.kinds("r1")
        place.lose(DiagnosisReady)
        assert whole - place.kinds("r1") == {("DiagnosisReady", 0): 2}

        place.pods.running[GATEWAY].process.kill()
        place.pods.running[GATEWAY].process.wait()
        with pytest.raises(AssertionError, match="ended by itself"):
            place.pods.check()
