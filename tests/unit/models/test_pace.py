"""The pace goes up by one a round and down by half at a refusal."""

from __future__ import annotations

import threading

from mendloop.models.pace import Pace, ask_all
from mendloop.models.vllm_client import Busy, Gone


def test_before_the_first_refusal_a_round_doubles() -> None:
    pace = Pace(limit=10.0)
    for _ in range(10):
        pace.end(pace.begin())
    assert pace.limit == 20.0


def test_after_it_a_round_adds_about_one() -> None:
    pace = Pace(limit=10.0, refusal_count=1)
    for _ in range(10):
        pace.end(pace.begin())
    assert 10.9 < pace.limit < 11.0


def test_one_congestion_halves_once_however_many_it_refuses() -> None:
    pace = Pace(limit=16.0)
    began = [pace.begin() for _ in range(8)]
    for at in began:
        pace.end(at, is_refused=True)
    assert (pace.limit, pace.refusal_count) == (8.0, 8)


def test_a_slow_answer_is_a_refusal() -> None:
    pace = Pace(limit=16.0, slow_s=-1.0)
    pace.end(pace.begin())
    assert pace.limit == 8.0


def test_no_more_are_under_way_than_the_limit_says() -> None:
    pace, lock, most, now = Pace(limit=3.0, most=4), threading.Lock(), 0, 0

    def ask(question: int) -> int:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        with lock:
            now -= 1
        return question

    asked = ask_all(range(200), ask, pace=pace)

    assert asked.answers == {at: at for at in range(200)}
    assert most <= 4


def test_what_stays_busy_is_missing_and_said() -> None:
    def ask(question: int) -> int:
        if question == 1:
            raise Busy("still 503")
        return question

    asked = ask_all([0, 1, 2], ask, pace=Pace(), tries=3, backoff_s=0.0)

    assert asked.answers == {0: 0, 2: 2}
    assert isinstance(asked.fault, Busy)


def test_once_the_server_is_gone_nothing_more_is_asked() -> None:
    asked_for: list[int] = []

    def ask(question: int) -> int:
        asked_for.append(question)
        raise Gone("connection refused")

    asked = ask_all(range(100), ask, pace=Pace(limit=1.0, most=1))

    assert asked_for == [0]
    assert isinstance(asked.fault, Gone)
    assert not asked.answers
