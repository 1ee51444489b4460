"""The queue simulation agrees with queueing theory, and its policies with KEDA's arithmetic."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))
from scaling import GPU_SERVICES, MEASURED_S, STAGES, arrivals, compare
from scaling_queue import Policy, Pool, Simulation, percentile


def simulated(policy: Policy, tasks: list[tuple[float, str, float]], *, until_s: float = 0.0) -> Pool:
    """A pool after all tasks (time, kind, seconds)."""
    pool = Pool(policy)
    simulation = Simulation({kind: pool for _, kind, _ in tasks})
    for at, kind, seconds in tasks:
        simulation.at(at, lambda now, k=kind, s=seconds: simulation.submit(now, k, s, lambda _: None))
    simulation.run(until_s=until_s)
    return pool


@pytest.mark.parametrize(("servers", "expected_s"), [(1, 4.0), (2, 0.1905)])
def test_mean_wait_is_that_of_theory(servers: int, expected_s: float) -> None:
    # M/M/c with rate .8 and service 1: rho / (mu - lambda) = 4 for c = 1; Erlang C gives .8^2 / (4 - .8^2) for c = 2
    rng, now, tasks = random.Random(3), 0.0, []
    for _ in range(40_000):
        now += rng.expovariate(0.8)
        tasks.append((now, "a", rng.expovariate(1.0)))
    waits = simulated(Policy(most=servers), tasks).waits_s
    assert sum(waits) / len(waits) == pytest.approx(expected_s, rel=0.15)


@pytest.mark.parametrize(("lag", "replicas"), [(0, 0), (1, 1), (4, 1), (5, 2), (9, 3), (99, 4)])
def test_replicas_follow_the_lag_as_keda_counts(lag: int, replicas: int) -> None:
    assert Policy(most=4, threshold=4).wanted(lag) == replicas


def test_an_idle_pool_costs_nothing_and_wakes_within_a_poll_and_a_start() -> None:
    pool = simulated(Policy(most=2, threshold=1, startup_s=60, cooldown_s=30), [(100.0, "a", 10.0)], until_s=10_000)
    assert pool.waits_s[0] == pytest.approx(65, abs=5.1)
    assert pool.alive_s < 200


def test_a_static_pool_is_paid_for_to_the_end() -> None:
    assert simulated(Policy(most=2), [(0.0, "a", 10.0)], until_s=1500).alive_s == pytest.approx(3000)


def test_a_worker_pays_for_each_change_of_work() -> None:
    tasks = [(0.0, "a", 10.0), (0.0, "b", 10.0), (0.0, "b", 10.0)]
    assert simulated(Policy(most=1, switch_s=100), tasks).waits_s == [0.0, 110.0, 120.0]


def test_runs_arrive_in_office_hours_at_the_given_rate() -> None:
    times = arrivals(runs_per_hour=4, days=50, rng=random.Random(1))
    assert all(8 <= time_s % 86_400 / 3600 < 18 for time_s in times)
    assert len(times) / 500 == pytest.approx(4, rel=0.1)


def test_every_stage_has_measured_times() -> None:
    assert {kind for kind, _ in STAGES} == set(MEASURED_S)
    assert set(GPU_SERVICES) < set(MEASURED_S)


def test_all_ways_finish_the_same_runs_and_the_scaled_one_costs_least() -> None:
    ways = {
        way.name: way
        for way in compare(
            runs_per_hour=2, days=2, stretch=10, startup_s=90, trainer_gpus=4, seed=0, times=dict(MEASURED_S)
        )
    }
    assert (
        ways["each service on its lag"].gpu_hours < ways["static, 1 each"].gpu_hours < ways["static, 4 each"].gpu_hours
    )
    assert ways["static, 4 each"].run_mean_s <= ways["each service on its lag"].run_mean_s


def test_percentile_is_a_nearest_rank() -> None:
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.5, 0.95)] == [2.0, 3.0]
