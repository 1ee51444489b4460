"""What scaling each service on its own lag costs and saves: replicas, waits and GPU hours against other ways.

    python benchmarks/scaling.py [--bus .mendloop/bus.db] [--runs-per-hour 4] [--json FILE]

Runs arrive in office hours and go through the loop's stages. Service times are those of a stored run (`--bus` takes
them from another), stretched by --stretch for models that take longer. Four ways are compared on the same arrivals:
each service by itself on its lag (the chart's values), a static size of as many replicas, one replica each, and one
scaled queue of workers that do everything: as large as the largest work, loading a model when the kind of work changes.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from scaling_queue import Policy, Pool, Simulation, percentile

GPU_SERVICES = ("evaluator", "diagnostician", "trainer")
STAGES = (("evaluator", 2), ("diagnostician", 1), ("data-generator", 1), ("trainer", 1), ("evaluator", 2))
"""What a round asks for: kind of work and how many events at once. Shards and slices of a stage run side by side."""
WORK = {
    "evaluator": (("EvaluationShard",), "ShardScored"),
    "diagnostician": (("EvalFailed",), "DiagnosisReady"),
    "data-generator": (("InterventionPlanned",), "DataBatchReady"),
    "trainer": (("LoopRequested", "InterventionPlanned", "DataBatchReady"), "CheckpointReady"),
}
"""What a service is measured by: the events that it takes and the one that it gives."""
MEASURED_S: dict[str, tuple[float, ...]] = {
    "evaluator": (14.5, 12.1, 13.8, 11.5, 6.6, 5.7),
    "diagnostician": (30.6, 29.0),
    "data-generator": (40.2,),
    "trainer": (181.6, 265.0, 62.6),
}
"""Handler times in seconds of one demo (2026-11-29) on two cores that other work shared: several times those of a quiet
machine. Waits and GPU hours depend on their proportions, and on --stretch."""
THRESHOLDS = {"evaluator": 4, "diagnostician": 2, "trainer": 1}
"""lagThreshold of the chart's values."""
HOUR_S, DAY_S = 3600.0, 86_400.0
OFFICE_HOURS = (8, 18)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run the services, and what it gave."""

    name: str
    run_mean_s: float
    run_p95_s: float
    wait_mean_s: float
    gpu_hours: float
    peak_gpus: int


def service_times(bus: Path) -> dict[str, tuple[float, ...]]:
    """Handler times of a stored run that had one replica a service: from input or last output to output.

    Work on an output began when the run's newest input had come and the service's output before was made (one server).
    Events that ask for no work, such as the first checkpoint of a run that has one, are left out: under a second.
    """
    with sqlite3.connect(f"file:{bus}?mode=ro", uri=True) as db:
        headers = [json.loads(row[0]) for row in db.execute("SELECT headers FROM events ORDER BY seq")]
    found: dict[str, list[float]] = {service: [] for service in WORK}
    newest: dict[tuple[str, str], float] = {}
    before = dict.fromkeys(WORK, 0.0)
    for header in headers:
        made_at, run = datetime.fromisoformat(header["ce_time"]).timestamp(), header["ce_subject"].split("/")[0]
        name = header["ce_type"].removeprefix("mendloop.v1.")
        for service, (taken, given) in WORK.items():
            if name == given and (service, run) in newest:
                seconds = made_at - max(newest[service, run], before[service])
                found[service] += [round(seconds, 1)] if seconds > 1 else []
                before[service] = made_at
            if name in taken:
                newest[service, run] = made_at
    return {service: tuple(seconds) for service, seconds in found.items()}


def arrivals(*, runs_per_hour: float, days: int, rng: random.Random) -> list[float]:
    """Times at which runs are asked for: a Poisson process in office hours."""
    found, now = [], OFFICE_HOURS[0] * HOUR_S
    while now < days * DAY_S:
        now += rng.expovariate(runs_per_hour / HOUR_S)
        if OFFICE_HOURS[0] <= now % DAY_S / HOUR_S < OFFICE_HOURS[1]:
            found.append(now)
        elif now % DAY_S / HOUR_S >= OFFICE_HOURS[1]:
            now += DAY_S - now % DAY_S + OFFICE_HOURS[0] * HOUR_S
    return [time_s for time_s in found if time_s < days * DAY_S]


def simulate(
    name: str,
    pools: dict[str, Pool],
    starts: Sequence[float],
    *,
    times: dict[str, Sequence[float]],
    seed: int,
    days: int,
) -> Way:
    """One way on given arrivals; the same seed draws the same service times in the same order of runs."""
    simulation = Simulation(pools)
    took: list[float] = []

    def begin(start: float, rng: random.Random) -> Callable[[float], None]:
        return lambda now: stage(0, now, start, rng)

    def stage(index: int, now: float, start: float, rng: random.Random) -> None:
        if index == len(STAGES):
            took.append(now - start)
            return
        kind, count = STAGES[index]
        left = [count]

        def done(at: float) -> None:
            left[0] -= 1
            if not left[0]:
                stage(index + 1, at, start, rng)

        for seconds in [rng.choice(times[kind]) for _ in range(count)]:
            simulation.submit(now, kind, seconds, done)

    for number, start in enumerate(starts):
        simulation.at(start, begin(start, random.Random(f"{seed}/{number}")))
    simulation.run(until_s=days * DAY_S)
    return _way(name, pools, took)


def _way(name: str, pools: dict[str, Pool], took: Sequence[float]) -> Way:
    unique = list({id(pool): pool for pool in pools.values()}.values())
    waits = [wait for pool in unique for wait in pool.waits_s]
    paid_s = sum(pool.policy.gpus * pool.alive_s for pool in unique)
    return Way(
        name,
        run_mean_s=sum(took) / len(took),
        run_p95_s=percentile(took, 0.95),
        wait_mean_s=sum(waits) / len(waits),
        gpu_hours=paid_s / HOUR_S,
        peak_gpus=sum(pool.policy.gpus * pool.peak for pool in unique),
    )


def compare(
    *,
    runs_per_hour: float,
    days: int,
    stretch: float,
    startup_s: float,
    trainer_gpus: int,
    seed: int,
    times: dict[str, Sequence[float]],
) -> list[Way]:
    """The four ways on the same arrivals."""
    times = {kind: [stretch * seconds for seconds in values] for kind, values in times.items()}
    starts = arrivals(runs_per_hour=runs_per_hour, days=days, rng=random.Random(seed))
    gpus = {"evaluator": 1, "diagnostician": 1, "trainer": trainer_gpus}

    def way(name: str, pools: dict[str, Pool]) -> Way:
        both = {"data-generator": Pool(Policy(most=4)), **pools}
        return simulate(name, both, starts, times=times, seed=seed, days=days)

    def static(size: int) -> dict[str, Pool]:
        return {kind: Pool(Policy(most=size, gpus=count)) for kind, count in gpus.items()}

    by_lag = {
        kind: Pool(Policy(most=4, threshold=THRESHOLDS[kind], startup_s=startup_s, gpus=count))
        for kind, count in gpus.items()
    }
    # A worker that takes any work is as large as the largest work.
    largest = max(gpus.values())
    shared = Pool(Policy(most=12, threshold=2, startup_s=startup_s, switch_s=startup_s, gpus=largest))
    return [
        way("each service on its lag", by_lag),
        way("static, 4 each", static(4)),
        way("static, 1 each", static(1)),
        way("one queue, scaled", dict.fromkeys(GPU_SERVICES, shared)),
    ]


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bus", type=Path, help="a deployment's bus.db whose run gives the service times")
    parser.add_argument("--runs-per-hour", type=float, default=4)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--stretch", type=float, default=10, help="how much longer than in the stored run")
    parser.add_argument("--startup", type=float, default=90, help="seconds from a decision to a replica that works")
    parser.add_argument("--trainer-gpus", type=int, default=4, help="GPUs of one training")
    parser.add_argument("--price", type=float, default=3.0, help="of one GPU for one hour")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    words = parser.parse_args()
    times = service_times(words.bus) if words.bus else MEASURED_S
    ways = compare(
        runs_per_hour=words.runs_per_hour,
        days=words.days,
        stretch=words.stretch,
        startup_s=words.startup,
        trainer_gpus=words.trainer_gpus,
        seed=words.seed,
        times=dict(times),
    )
    print("| way | run, mean | run, p95 | wait of an event, mean | GPU hours | GPUs at most | cost |")
    print("|---|---|---|---|---|---|---|")
    for way in ways:
        print(
            f"| {way.name} | {way.run_mean_s / 60:.0f} min | {way.run_p95_s / 60:.0f} min | {way.wait_mean_s:.0f} s"
            f" | {way.gpu_hours:.0f} | {way.peak_gpus} | {words.price * way.gpu_hours:.0f} |"
        )
    if words.json:
        rows = [{name: getattr(way, name) for name in Way.__slots__} for way in ways]
        words.json.write_text(
            json.dumps({"arguments": {k: str(v) for k, v in vars(words).items()}, "ways": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
