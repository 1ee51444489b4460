"""The evaluator against raw lm-evaluation-harness with its hf backend: equal scores item by item, and items a second.

    python benchmarks/evaluator.py --items 200 --repeats 3 --json out.json

Same model (a random Llama made here, or --model), same tasks (one of each type over local JSONL), one process tree,
interleaved: each repeat measures lm_eval, ours with one worker process and ours with two, in an order that rotates.
Loading a model and building a task is in no time; scoring is in all. Ours also measures each target's
log-probabilities, which lm_eval does not for generated outputs.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
import yaml
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval_world import TYPES, expected, regex_tokenizer, rows, written
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from mendloop.core.records import Item
from mendloop.core.tasks import find_task
from mendloop.evaluator.domain.sharding import batches_of, shard_of
from mendloop.evaluator.measurement import BATCH_ITEMS
from mendloop.models.asking import asker_of
from mendloop.models.transformers_backend import load_model

METRICS = {
    "generate_until": "exact_match",
    "multiple_choice": "acc_norm",
    "loglikelihood": "perplexity",
    "loglikelihood_rolling": "word_perplexity",
}
NEW_TOKENS = 24
BATCH = 64
AGREE = 1e-3
"""Relative difference of two scores that still count as equal: batches are padded differently in float32."""


def made_model(folder: Path, documents: list[dict[str, Any]]) -> Path:
    """A random Llama of 2.1 M parameters, saved."""
    tokenizer = regex_tokenizer([f"{row['question']} {row['answer']} {row['text']}" for row in documents])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=6,
        max_position_embeddings=256,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


class Worker:
    """A process with a loaded checkpoint that measures shards of one task."""

    def __init__(self, directory: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, directory), daemon=True)
        self._process.start()

    def send(self, *message: Any) -> None:
        """Ask; the answer is read by receive."""
        self._pipe.send(message)

    def receive(self) -> Any:
        """The answer."""
        return self._pipe.recv()

    def stop(self) -> None:
        """End the process."""
        self._pipe.send(("stop",))
        self._process.join()


def _serve(pipe: Any, directory: Path) -> None:
    torch.set_num_threads(1)
    model = load_model(directory)
    tasks: dict[str, Any] = {}
    while True:
        verb, *values = pipe.recv()
        if verb == "stop":
            return
        if verb == "task":
            name, options = values
            tasks[name] = find_task("lm-eval", options)
            pipe.send("ready")
        if verb == "measure":
            name, items, index, count = values
            pipe.send(_measure(tasks[name], shard_of(items, index=index, count=count), model))


def _measure(task: Any, items: list[Item], model: Any) -> dict[str, float]:
    """Scores by item id, in the batches of the evaluator's Measurement."""
    scores = {}
    for batch in batches_of(items, size=BATCH_ITEMS):
        asker = asker_of(task)
        prompts = [item.prompt for item in batch]
        if asker is not None:
            generations, _ = asker.ask(batch, model=model, prompt=str)
        else:
            generations = model.generate(prompts, max_new_tokens=NEW_TOKENS, stop=task.stop_strings)
            model.logprobs(prompts, [item.target for item in batch])
        for item, generation in zip(batch, generations, strict=True):
            scores[item.item_id] = task.score(item, generation.text).value
    return scores


def ours(name: str, items: list[Item], workers: list[Worker]) -> tuple[float, dict[int, float]]:
    """Seconds and scores by document, with as many shards as workers."""
    started = time.perf_counter()
    for index, worker in enumerate(workers):
        worker.send("measure", name, items, index, len(workers))
    answers = [worker.receive() for worker in workers]
    wall_s = time.perf_counter() - started
    return wall_s, {int(key.rpartition("/")[2]): value for part in answers for key, value in part.items()}


def theirs(task: Any, model: HFLM, name: str) -> tuple[float, dict[int, dict[str, Any]]]:
    """Seconds and samples by document of raw lm_eval."""
    started = time.perf_counter()
    found = evaluate(lm=model, task_dict={name: task}, log_samples=True, bootstrap_iters=0)
    wall_s = time.perf_counter() - started
    return wall_s, {sample["doc_id"]: sample for sample in found["samples"][name]}


def lm_eval_task(path: Path) -> Any:
    """lm_eval's own task object of a YAML with local data."""
    from lm_eval.tasks import get_task_dict

    config = yaml.safe_load(path.read_text())
    files = {split: str(path.parent / file) for split, file in config["dataset_kwargs"]["data_files"].items()}
    config["dataset_kwargs"] = {"data_files": files, "cache_dir": str(path.parent / "cache")}
    (task,) = get_task_dict([config], TaskManager(include_defaults=False)).values()
    task.set_fewshot_seed(1234)
    return task


def compared(
    kind: str, folder: Path, *, documents: list[dict[str, Any]], hf: HFLM, workers: list[Worker], repeats: int
) -> dict[str, Any]:
    """One row: agreement item by item, and the median items a second of each way."""
    folder.mkdir()
    path = written(folder, kind, documents, **_length(kind))
    options = {"path": str(path), "metric": METRICS[kind]}
    items = find_task("lm-eval", options).items(counts={"search": len(documents)}, seed=0)
    for worker in workers:
        worker.send("task", kind, options)
    for worker in workers:
        worker.receive()
    task, name = lm_eval_task(path), f"made_{kind}"
    ways = {
        "lm_eval": lambda: theirs(task, hf, name),
        "1 worker": lambda: ours(kind, items, workers[:1]),
        "2 workers": lambda: ours(kind, items, workers[:2]),
    }
    ways["lm_eval"](), ways["2 workers"]()  # warm
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    results: dict[str, Any] = {}
    names = list(ways)
    for repeat in range(repeats):
        for way in names[repeat % 3 :] + names[: repeat % 3]:
            wall_s, results[way] = ways[way]()
            seconds[way].append(wall_s)
    wanted = {at: expected(sample, METRICS[kind]) for at, sample in results["lm_eval"].items()}
    mismatches = [at for way in names[1:] for at, value in wanted.items() if not _equal(results[way].get(at), value)]
    rate = {way: len(items) / statistics.median(walls) for way, walls in seconds.items()}
    return {
        "type": kind,
        "metric": METRICS[kind],
        "item_count": len(wanted),
        "mismatch_count": len(mismatches),
        "distinct_scores": len(set(wanted.values())),
        "items_per_s": rate,
        "ratio": {way: rate[way] / rate["lm_eval"] for way in names[1:]},
        "seconds": seconds,
    }


def _length(kind: str) -> dict[str, Any]:
    if kind != "generate_until":
        return {}
    return {"generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": NEW_TOKENS}}


def _equal(found: float | None, wanted: float) -> bool:
    return found is not None and math.isclose(found, wanted, rel_tol=AGREE, abs_tol=1e-12)


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", type=Path, help="A checkpoint directory; empty makes a random one.")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch:
        documents = rows(arguments.items)
        directory = arguments.model or made_model(Path(scratch) / "model", documents)
        workers = [Worker(directory) for _ in range(2)]
        tokenizer = AutoTokenizer.from_pretrained(directory)
        hf = HFLM(pretrained=AutoModelForCausalLM.from_pretrained(directory), tokenizer=tokenizer, batch_size=BATCH)
        found = [
            compared(kind, Path(scratch) / kind, documents=documents, hf=hf, workers=workers, repeats=arguments.repeats)
            for kind in TYPES
        ]
        for worker in workers:
            worker.stop()
    table = Table(
        "type (metric)", "items", "mismatches", "lm_eval items/s", "1 worker", "2 workers", "ratio 1", "ratio 2"
    )
    for row in found:
        rates, ratio = row["items_per_s"], row["ratio"]
        table.add_row(
            f"{row['type']} ({row['metric']})",
            str(row["item_count"]),
            str(row["mismatch_count"]),
            *(f"{rates[way]:.1f}" for way in ("lm_eval", "1 worker", "2 workers")),
            *(f"{ratio[way]:.2f}" for way in ("1 worker", "2 workers")),
        )
    Console(width=150).print(table)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"cpu_count": os.cpu_count(), "load": os.getloadavg(), "rows": found}, indent=2)
        )


if __name__ == "__main__":
    main()
