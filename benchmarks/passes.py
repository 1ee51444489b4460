"""Corpus passes: rows a second and peak memory by size. Prints a table and writes JSON.

    python benchmarks/passes.py --rows 100000,1000000 [--passes exact,items,ngrams,near] [--workers 2] [--engine pool]

The corpus is drawn: sentences of 12 to 30 words from 20,000 words (Zipf), 10 % copies and 10 % near-copies of rows
before them, one evaluation item in a thousand rows. Each size runs in a process of its own, so that its peak is its
own: memory is that of the driving process plus, for each worker, that of the largest (resident set, Linux).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from mendloop.passes.cleaning import Pass, run_pass
from mendloop.passes.corpus import PART_ROWS, Corpus, write_corpus
from mendloop.passes.decontamination import decontamination
from mendloop.passes.duplicates import exact_duplicates, near_duplicates
from mendloop.passes.engine import Engine
from mendloop.passes.marks import EvaluationMarks, marks_document
from mendloop.passes.pool import PoolEngine

RESULTS = Path(__file__).parent / "results" / "passes.json"
ITEMS = 1_000
BATCH = 8_192
REMEMBERED = 4_096
"""Rows that a copy may be a copy of: drawing must not hold the corpus either."""


def main() -> None:
    """Run every size in a process of its own."""
    options = _options()
    if options.one:
        print(json.dumps(_measured(options)))
        return
    rows = []
    for size in options.rows.split(","):
        command = [sys.executable, __file__, *sys.argv[1:], "--one", size]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows += json.loads(done.stdout.splitlines()[-1])
        _print(rows[-len(options.passes.split(",")) :])
    document = {"engine": options.engine, "workers": options.workers, "part_rows": PART_ROWS, "rows": rows}
    document["load_average_at_end"] = os.getloadavg()[0]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="100000,1000000", help="sizes, by comma")
    parser.add_argument("--passes", default="exact,items,ngrams,near", help="passes, by comma")
    parser.add_argument("--engine", choices=["pool", "ray"], default="pool")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=None, help="where the drawn corpus lies meanwhile")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def _measured(options: argparse.Namespace) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    with TemporaryDirectory(prefix="mendloop-bench-", dir=options.folder) as folder:
        corpus = write_corpus(_drawn(options.one), Path(folder) / "corpus")
        for name in options.passes.split(","):
            engine, close = _engine(options)
            started, cpu_before = time.monotonic(), _cpu_s()
            cleaned = run_pass(corpus, _pass(name, corpus), engine=engine, into=Path(folder) / name)
            elapsed_s = time.monotonic() - started
            close()
            rows.append(
                {
                    "pass": name,
                    "rows": options.one,
                    "seconds": round(elapsed_s, 2),
                    "rows_per_s": round(options.one / elapsed_s),
                    "rows_per_cpu_s": round(options.one / (_cpu_s() - cpu_before)),
                    "dropped": sum(cleaned.dropped.values()),
                    "not_compared": cleaned.not_compared,
                    "driver_peak_mb": _peak_mb(resource.RUSAGE_SELF),
                    "worker_peak_mb": _peak_mb(resource.RUSAGE_CHILDREN),
                    "corpus_mb": round(sum(path.stat().st_size for path in corpus.parts()) / 2**20, 1),
                }
            )
    return rows


def _engine(options: argparse.Namespace) -> tuple[Engine, Callable[[], None]]:
    if options.engine == "ray":
        import ray

        from mendloop.passes.ray_engine import RayEngine

        if not ray.is_initialized():
            ray.init(num_cpus=options.workers, include_dashboard=False, _node_ip_address="127.0.0.1")
        return RayEngine(), lambda: None
    pool = PoolEngine(workers=options.workers, spill=options.folder)
    return pool, lambda: pool.__exit__(None, None, None)


def _pass(name: str, corpus: Corpus) -> Pass:
    if name == "exact":
        return exact_duplicates(corpus)
    if name == "near":
        return near_duplicates(corpus)
    words = {"items": 0, "ngrams": 8}[name]
    document = json.dumps(marks_document(_items(), ngram_words=words)).encode()
    return decontamination(EvaluationMarks.of_bytes(document, name="marks"))


def _cpu_s() -> float:
    """CPU seconds of this process and of workers that have ended: what another load does not change."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in both)


def _peak_mb(who: int) -> float:
    return round(resource.getrusage(who).ru_maxrss / 1024, 1)


class _Words:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self._words = [f"w{at}" for at in range(20_000)]
        self._weights = list(accumulate(1 / (10 + at) for at in range(20_000)))

    def sentence(self) -> str:
        return " ".join(self.rng.choices(self._words, cum_weights=self._weights, k=self.rng.randint(12, 30)))


def _items() -> list[str]:
    words = _Words(1)
    return [words.sentence() for _ in range(ITEMS)]


def _drawn(count: int) -> Iterator[pa.RecordBatch]:
    words, items = _Words(2), _items()
    rng, recent = words.rng, [("a first row of words", "0")]
    for start in range(0, count, BATCH):
        rows = [_row(words, items, recent) for _ in range(min(BATCH, count - start))]
        recent = [*recent, *rng.sample(rows, min(len(rows), REMEMBERED // 4))][-REMEMBERED:]
        yield pa.RecordBatch.from_pydict({"prompt": [row[0] for row in rows], "completion": [row[1] for row in rows]})


def _row(words: _Words, items: list[str], recent: list[tuple[str, str]]) -> tuple[str, str]:
    kind = words.rng.random()
    if kind < 0.001:
        return words.rng.choice(items), "1"
    if kind < 0.801:
        return words.sentence(), str(words.rng.randrange(10))
    prompt, answer = words.rng.choice(recent)
    if kind < 0.901:
        return prompt, answer
    return f"{prompt} {words.rng.randrange(100)}", answer


def _print(rows: list[dict[str, object]]) -> None:
    for row in rows:
        print(
            f"{row['pass']:8} {row['rows']:>10,} rows  {row['rows_per_s']:>8,}/s"
            f" {row['rows_per_cpu_s']:>8,}/CPU-s  dropped {row['dropped']:>9,}"
            f"  driver {row['driver_peak_mb']:>6} MB  worker {row['worker_peak_mb']:>6} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
