"""Does an attribution say what retraining would show? Against bergson, BM25, sentence vectors and chance, in one run.

    python benchmarks/attribution.py --peer BERGSON_ENVIRONMENT/bin/python --json out.json --png out.png

A small Llama learns SCAN without `jump` and `around`, then 512 examples of the whole grammar: this second training is
what is attributed. It is repeated on random halves of the 512. The linear datamodeling score (LDS; Park et al. 2023,
arXiv 2303.14186) is Spearman's correlation, over the halves, between a held-out query's true loss and the sum of its
scores over the half; the mean over queries. Removal: the tenth of the examples with the highest mean score is left
out and the training repeated; by how much the queries' loss rises. Trained models are kept in --cache as losses.

bergson runs by its public functions in an environment of its own; one damping a row, the default of .1, unless a row
says that it is its best in hindsight. Ours is never chosen in hindsight. Time is CPU time of one thread, so that other
work on the machine counts little; ours includes tokenising, bergson's begins with token ids.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from mendloop.evaluator.adapters.embeddings import embedder_of
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata
from transformers import LlamaConfig, LlamaForCausalLM

from mendloop.attribution.adapters.gradients import ProjectedGradients, open_source
from mendloop.attribution.adapters.retrieval import Bm25, Embeddings
from mendloop.attribution.domain.ranking import likeliest
from mendloop.attribution.domain.settings import IndexSettings
from mendloop.attribution.engine import Attribution, Failure
from mendloop.attribution.index import GradientIndex, build_index
from mendloop.attribution.ports import Text
from mendloop.core.records import Example
from mendloop.examples.scan.axes import annotated_commands
from mendloop.examples.scan.model import TEMPLATE, build_tokenizer
from mendloop.models.encoding import Encoded, encode_examples

CONTEXT = 2048  # bergson takes no batch with more tokens than the context
DAMPING = (0.001, 0.01, 0.1, 1.0)
DEFAULT = 0.1
CANDIDATES = 64
OURS = "ours"
Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is trained. halves: random halves of the training set; each is trained with every training seed."""

    seed: int
    halves: int
    training_seeds: int
    train: int = 512
    queries: int = 64
    base: int = 1500
    base_steps: int = 600
    steps: int = 128
    batch: int = 32
    longest: int = 8

    @property
    def name(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


class World:
    """Data, base model and the training that is attributed; losses under retraining come from the cache."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self.folder = plan, folder / plan.name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer = build_tokenizer()
        self.tokenizer.model_max_length = CONTEXT
        short = [c for c in annotated_commands() if len(c.actions.split()) <= plan.longest]
        rows = [Example(c.command, c.actions, "scan", axes=c.axes) for c in short]
        random.Random(plan.seed).shuffle(rows)
        known = [row for row in rows if not {"jump", "around"} & set(row.prompt.split())][: plan.base]
        kept = {row.prompt for row in known}
        rest = [row for row in rows if row.prompt not in kept]
        self.train = rest[: plan.train]
        self.queries = rest[plan.train : plan.train + plan.queries]
        self.speed = rest[plan.train + plan.queries :][:2048]
        self._base = self._trained_base(known)
        self._encoded = self.encoded(self.train)

    def encoded(self, rows: Sequence[Example]) -> list[Encoded]:
        prompts = [TEMPLATE.format(prompt=row.prompt) for row in rows]
        return encode_examples(self.tokenizer, prompts, [row.completion for row in rows])

    def _trained_base(self, known: Sequence[Example]) -> LlamaForCausalLM:
        torch.manual_seed(self.plan.seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(self.tokenizer),
                hidden_size=48,
                intermediate_size=96,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=4,
                max_position_embeddings=CONTEXT,
                tie_word_embeddings=False,
                bos_token_id=None,
                eos_token_id=self.tokenizer.eos_token_id,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        )
        path = self.folder / "base.pt"
        if path.is_file():
            model.load_state_dict(torch.load(path, weights_only=True))
            return model
        fit(model, self.encoded(known), steps=self.plan.base_steps, batch=64, rate=3e-3, seed=self.plan.seed)
        torch.save(model.state_dict(), path)
        return model

    def retrained(self, kept: Array, *, seed: int) -> tuple[LlamaForCausalLM, torch.optim.Optimizer]:
        """The second training on a part of the examples: the order and the steps of the whole, the rest left out."""
        model = LlamaForCausalLM(self._base.config)
        model.load_state_dict(self._base.state_dict())
        optimizer = fit(
            model, self._encoded, steps=self.plan.steps, batch=self.plan.batch, rate=1e-3, seed=seed, kept=kept
        )
        return model, optimizer

    def losses(self, kept: Array, *, seed: int) -> Array:
        """The queries' losses after such a training."""
        name = hashlib.sha256(np.packbits(kept).tobytes() + bytes([seed])).hexdigest()[:24]
        path = self.folder / f"{name}.npy"
        if path.is_file():
            found: Array = np.load(path)
            return found
        values = losses_of(self.retrained(kept, seed=seed)[0], self.encoded(self.queries))
        np.save(path, values)
        return values

    def checkpoint(self) -> Path:
        """The model that is attributed, with its optimizer's state."""
        folder = self.folder / "model"
        if not folder.is_dir():
            model, optimizer = self.retrained(np.ones(self.plan.train, bool), seed=0)
            model.save_pretrained(folder)
            self.tokenizer.save_pretrained(folder)
            torch.save(optimizer.state_dict(), folder / "optimizer.pt")
        return folder

    def halves(self) -> tuple[Array, Array]:
        """Which examples each half holds (halves, examples) and the queries' losses (seeds, halves, queries)."""
        rng = np.random.default_rng(self.plan.seed)
        kept = np.zeros((self.plan.halves, self.plan.train), bool)
        for row in kept:
            row[rng.permutation(self.plan.train)[: self.plan.train // 2]] = True
        found = [[self.losses(row, seed=seed) for row in kept] for seed in range(self.plan.training_seeds)]
        return kept, np.array(found)


def batch_of(examples: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(e.input_ids) for e in examples)
    ids = torch.tensor([[*e.input_ids, *[0] * (width - len(e.input_ids))] for e in examples])
    labels = torch.full_like(ids, -100)
    for row, e in enumerate(examples):
        labels[row, e.prompt_length : len(e.input_ids)] = torch.tensor(e.completion_ids)
    return ids, labels


def token_losses(model: Any, examples: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of each position, and which of them count."""
    ids, labels = batch_of(examples)
    logits = model(input_ids=ids).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="none"
    )
    return losses.view(len(examples), -1), labels[:, 1:] != -100


def fit(
    model: Any,
    examples: Sequence[Encoded],
    *,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    kept: Array | None = None,
) -> torch.optim.Optimizer:
    """AdamW with a linear rate; an example that is not kept leaves its batch smaller."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0, betas=(0.9, 0.99))
    rng = random.Random(seed)
    order: list[int] = []
    for step in range(steps):
        if len(order) < batch:
            order += rng.sample(range(len(examples)), len(examples))
        chosen, order = order[:batch], order[batch:]
        chosen = [at for at in chosen if kept is None or kept[at]]
        if not chosen:
            continue
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10) * (1 - step / steps)
        losses, counted = token_losses(model, [examples[at] for at in chosen])
        optimizer.zero_grad()
        (losses.sum() / counted.sum()).backward()
        optimizer.step()
    return optimizer


@torch.no_grad()
def losses_of(model: Any, examples: Sequence[Encoded]) -> Array:
    """Loss of each completion, summed over its tokens."""
    found: Array = token_losses(model, examples)[0].sum(1).numpy()
    return found


class Peer:
    """bergson in its own environment."""

    def __init__(self, python: Path, world: World) -> None:
        self.folder = world.folder / "peer"
        self.folder.mkdir(exist_ok=True)
        parts = {"train": world.train, "queries": world.queries, "speed": world.speed}
        spec = {
            "folder": str(self.folder / "work"),
            "model": str(world.checkpoint()),
            "projection_dim": 16,
            "damping": DAMPING,
            **{name: [_ids_and_labels(e) for e in world.encoded(rows)] for name, rows in parts.items()},
        }
        (self.folder / "spec.json").write_text(json.dumps(spec))
        self._log = (self.folder / "log.txt").open("w")
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).with_name("attribution_peer.py")), str(self.folder / "spec.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, command: str) -> dict[str, Any]:
        """One answer; other lines are its log."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise SystemExit(f"bergson ended at {command!r}: see {self._log.name}")

    def scores(self) -> tuple[dict[str, Array], float]:
        """Scores by method and damping, and the seconds of one EKFAC pass over corpus and queries."""
        answer = self.ask("scores")
        work = self.folder / "work"
        return {n: np.load(work / f"{n.replace('|', '_')}.npy") for n in answer["names"]}, answer["ekfac_s"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()


def _ids_and_labels(e: Encoded) -> dict[str, list[int]]:
    return {"input_ids": list(e.input_ids), "labels": [-100] * e.prompt_length + list(e.completion_ids)}


def texts_of(rows: Sequence[Example]) -> list[Text]:
    return [Text(TEMPLATE.format(prompt=row.prompt), row.completion) for row in rows]


def failures_of(rows: Sequence[Example]) -> list[Failure]:
    return [Failure(TEMPLATE.format(prompt=row.prompt), row.completion) for row in rows]


class Ours:
    """Our index of the world's training examples, in the given settings."""

    def __init__(self, world: World, settings: IndexSettings) -> None:
        self.source: ProjectedGradients = open_source(world.checkpoint(), settings=settings)
        self.texts, self.failures = texts_of(world.train), failures_of(world.queries)
        self.index: GradientIndex = build_index(
            self.source, self.texts, root=world.folder / "index", storage=settings.storage
        )[0]

    def scores(self, **options: Any) -> Array:
        """(queries, examples)."""
        return Attribution(self.index, self.source, self.texts, **options).scores(self.failures)

    def prefiltered(self) -> Array:
        """Influence where BM25 sees one of the CANDIDATES most alike; 0 elsewhere."""
        attribution = Attribution(self.index, self.source, self.texts, retriever=Bm25())
        likeness = attribution.likeness(self.failures)
        assert likeness is not None
        scores = np.zeros_like(likeness)
        for at, failure in enumerate(self.failures):
            chosen = likeliest(likeness[at : at + 1], count=CANDIDATES)
            scores[at, chosen] = attribution.scores([failure], chosen)[0]
        return scores

    def query_ms(self, *, times: int = 20, candidates: int | None = None) -> float:
        """Median CPU milliseconds of a query: its gradient, the curvature, all scores (or retrieval and candidates)."""
        attribution = Attribution(self.index, self.source, self.texts, retriever=Bm25())
        attribution.scores(self.failures[:1])
        spent = []
        for failure in self.failures[:times]:
            started = time.process_time()
            if candidates is None:
                attribution.scores([failure])
            else:
                attribution.rank([failure], candidate_count=candidates)
            spent.append(time.process_time() - started)
        return 1000 * float(np.median(spent))


def index_seconds(world: World, settings: IndexSettings) -> float:
    """CPU seconds to tokenise, collect and store the gradients of the speed set with a loaded model."""
    source, texts = open_source(world.checkpoint(), settings=settings), texts_of(world.speed)
    root = world.folder / "speed"
    shutil.rmtree(root, ignore_errors=True)
    started = time.process_time()
    build_index(source, texts, root=root)
    return time.process_time() - started


def retrieved(world: World, retriever: Any) -> Array:
    """A retriever's likeness as scores."""
    retriever.fit([text.whole for text in texts_of(world.train)])
    return np.asarray(retriever.scores([text.whole for text in texts_of(world.queries)]))


def correlations(kept: Array, truth: Array, scores: Array) -> Array:
    """Spearman's correlation over the halves of each query, (queries)."""
    predicted, true = rankdata(kept @ scores.T, axis=0), rankdata(-truth, axis=0)
    predicted, true = predicted - predicted.mean(axis=0), true - true.mean(axis=0)
    found: Array = (predicted * true).sum(axis=0) / np.sqrt((predicted**2).sum(axis=0) * (true**2).sum(axis=0))
    return np.nan_to_num(found)


def bootstrap(kept: Array, truth: Array, scores: dict[str, Array], *, draws: int = 300) -> dict[str, Array]:
    """LDS of each method under resampled halves and queries; the same draws for all, so that differences are paired."""
    rng = np.random.default_rng(0)
    values: dict[str, list[float]] = {name: [] for name in scores}
    for _ in range(draws):
        halves = rng.integers(len(kept), size=len(kept))
        queries = rng.integers(truth.shape[1], size=truth.shape[1])
        for name, one in scores.items():
            values[name].append(float(correlations(kept[halves], truth[halves], one)[queries].mean()))
    return {name: np.array(drawn) for name, drawn in values.items()}


def removal(world: World, scores: Array, *, seeds: int = 2) -> float:
    """Rise of the queries' mean loss without the tenth of the examples that speaks most for them."""
    kept = np.ones(world.plan.train, bool)
    kept[np.argsort(-scores.mean(axis=0), kind="stable")[: world.plan.train // 10]] = False
    whole = np.ones(world.plan.train, bool)
    rises = [world.losses(kept, seed=seed).mean() - world.losses(whole, seed=seed).mean() for seed in range(seeds)]
    return float(np.mean(rises))


def all_scores(world: World, peer: Peer | None, embedder: str) -> tuple[dict[str, Array], dict[str, Array], float]:
    """Ours and the baselines; the peer's by damping; seconds of the peer's EKFAC."""
    ours = Ours(world, IndexSettings())
    adam = Ours(world, IndexSettings(uses_adam=True))
    found = {
        OURS: ours.scores(),
        f"ours, {CANDIDATES} candidates by BM25": ours.prefiltered(),
        "ours, scaled by Adam": adam.scores(),
        "ours, normalised": ours.scores(is_cosine=True),
        "ours, without curvature": ours.scores(damping=None),
        "ours, normalised, without curvature": ours.scores(damping=None, is_cosine=True),
        "BM25": retrieved(world, Bm25()),
        "sentence vectors": retrieved(world, Embeddings(embedder_of(embedder))),
        "random": np.random.default_rng(0).normal(size=(world.plan.queries, world.plan.train)),
    }
    peers, ekfac_s = peer.scores() if peer else ({}, 0.0)
    return found, peers, ekfac_s


def with_hindsight(kept: Array, truth: Array, peers: dict[str, Array]) -> dict[str, Array]:
    """The peer's methods at the default damping, and each at the damping that turned out best here."""
    found, best = {}, {}
    for name, scores in peers.items():
        method, _, damping = name.partition("|")
        if not damping or float(damping) == DEFAULT:
            found[method] = scores
        value = float(correlations(kept, truth, scores).mean())
        if damping and value > best.get(method, (-1.0, "", scores))[0]:
            best[method] = (value, damping, scores)
    for method, (_, damping, scores) in best.items():
        if float(damping) != DEFAULT:
            found[f"{method}, best damping in hindsight ({damping})"] = scores
    return found


def costs(world: World, peer: Peer | None, *, rounds: int) -> dict[str, dict[str, float]]:
    """Index examples/s in turns, milliseconds of a query, bytes of an example."""
    settings, count = IndexSettings(), len(world.speed)
    spent: dict[str, list[float]] = {"ours": [], "bergson": []}
    for _ in range(rounds):
        spent["ours"].append(count / index_seconds(world, settings))
        if peer:
            answer = peer.ask("index")
            spent["bergson"].append(answer["count"] / answer["s"])
    ours = Ours(world, settings)
    queries: dict[str, list[float]] = {"ours": [], "candidates": [], "bergson": []}
    for _ in range(rounds):
        queries["ours"].append(ours.query_ms())
        queries["candidates"].append(ours.query_ms(candidates=CANDIDATES))
        if peer:
            queries["bergson"].append(peer.ask("query")["ms"])
    found = {
        "ours": {
            "index_per_s": float(np.median(spent["ours"])),
            "query_ms": float(np.median(queries["ours"])),
            "bytes": ours.index.byte_count / world.plan.train,
        },
        "ours, candidates": {"query_ms": float(np.median(queries["candidates"]))},
    }
    if peer:
        found["bergson"] = {
            "index_per_s": float(np.median(spent["bergson"])),
            "query_ms": float(np.median(queries["bergson"])),
        }
    return found


def cost_of(name: str, cost: dict[str, dict[str, float]], ekfac_s: float) -> dict[str, float]:
    """What of the costs belongs to a method."""
    if name.startswith("bergson"):
        if "EKFAC" in name:
            return {"pass_s": ekfac_s}
        return {} if "TRAK" in name else cost.get("bergson", {})
    if "candidates" in name:
        return {**cost["ours"], **cost["ours, candidates"]}
    return cost["ours"] if name.startswith("ours") else {}


def drawn(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """LDS with intervals."""
    figure = Figure(figsize=(8, 0.32 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    for at, row in enumerate(reversed(rows)):
        colour = "tab:blue" if row["method"].startswith("ours") else "tab:orange"
        colour = colour if row["method"].startswith(("ours", "bergson")) else "tab:grey"
        axes.plot([row["low"], row["high"]], [at, at], color=colour)
        axes.plot([row["lds"]], [at], "o", color=colour)
    axes.set_yticks(range(len(rows)), [row["method"] for row in reversed(rows)])
    axes.axvline(0, color="black", linewidth=0.5)
    axes.set_xlabel("linear datamodeling score, 95 % bootstrap interval")
    figure.savefig(path, dpi=120)


def measured(world: World, peer: Peer | None, *, embedder: str, rounds: int) -> dict[str, Any]:
    """Every figure."""
    started = time.perf_counter()
    kept, truths = world.halves()
    trained_s = time.perf_counter() - started
    stored = peer.ask("stores")["bytes"] if peer else 0.0
    cost = costs(world, peer, rounds=rounds)
    if peer:
        cost["bergson"]["bytes"] = stored
    found, peers, ekfac_s = all_scores(world, peer, embedder)
    truth = truths.mean(axis=0)
    found |= with_hindsight(kept, truth, peers)
    draws = bootstrap(kept, truth, found)
    rows = []
    for name, scores in found.items():
        more = np.percentile(draws[OURS] - draws[name], [2.5, 97.5]).tolist()
        low, high = np.percentile(draws[name], [2.5, 97.5]).tolist()
        rows.append(
            {
                "method": name,
                "lds": float(correlations(kept, truth, scores).mean()),
                "low": low,
                "high": high,
                "ours_more": float((draws[OURS] - draws[name]).mean()),
                "ours_more_low": more[0],
                "ours_more_high": more[1],
                "removal": None if "hindsight" in name else removal(world, scores),
                **cost_of(name, cost, ekfac_s),
            }
        )
    ceiling = _between_seeds(truths)
    rows.sort(key=lambda row: -float(row["lds"]))
    return {"plan": asdict(world.plan), "rows": rows, "between_seeds": ceiling, "training_s": trained_s}


def _between_seeds(truths: Array) -> float | None:
    """Spearman's correlation over halves between two training seeds: what retraining itself says of retraining."""
    if len(truths) < 2:
        return None
    a, b = (rankdata(one, axis=0) for one in truths[:2])
    return float(np.mean([np.corrcoef(a[:, q], b[:, q])[0, 1] for q in range(a.shape[1])]))


def shown(result: dict[str, Any], console: Console) -> None:
    """The table."""
    table = Table(
        "method",
        "LDS [95 %]",
        "ours more by [95 %]",
        "removal, nats",
        "index ex/CPU s",
        "query CPU ms",
        "bytes/example",
    )
    number: Callable[[dict[str, Any], str], str] = lambda row, key: f"{row[key]:,.0f}" if key in row else ""  # noqa: E731
    for row in result["rows"]:
        index = f"{row['pass_s']:.1f} s a pass" if "pass_s" in row else number(row, "index_per_s")
        query = f"{row['query_ms']:.1f}" if "query_ms" in row else ""
        table.add_row(
            row["method"],
            f"{row['lds']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            f"{row['ours_more']:+.3f} [{row['ours_more_low']:+.3f}, {row['ours_more_high']:+.3f}]",
            "" if row["removal"] is None else f"{row['removal']:+.2f}",
            index,
            query,
            number(row, "bytes"),
        )
    console.print(table)
    plan, ceiling = result["plan"], result["between_seeds"]
    console.print(
        f"{plan['halves']} halves x {plan['training_seeds']} training seeds, {plan['train']} examples, "
        f"{plan['queries']} queries, seed {plan['seed']}."
        + (f" Spearman between two training seeds: {ceiling:.3f}." if ceiling is not None else "")
    )


def main(
    peer: Annotated[
        Path | None, typer.Option(help="Python of an environment with bergson; none leaves it out.")
    ] = None,
    halves: Annotated[int, typer.Option(help="Random halves of the training set.")] = 64,
    training_seeds: Annotated[int, typer.Option(help="Trainings of each half.")] = 2,
    seed: Annotated[int, typer.Option(help="Of data, base model and halves. Seed 0 was used in development.")] = 1,
    rounds: Annotated[int, typer.Option(help="Turns of the speed comparison.")] = 3,
    embedder: Annotated[str, typer.Option(help="auto, tfidf or a directory.")] = "auto",
    cache: Annotated[Path, typer.Option(help="Where models and losses are kept.")] = Path(".cache/attribution"),
    json_path: Annotated[Path | None, typer.Option("--json")] = None,
    png: Annotated[Path | None, typer.Option("--png")] = None,
) -> None:
    """Measure, print the table, write JSON and PNG."""
    torch.set_num_threads(1)
    world = World(Plan(seed, halves, training_seeds), cache.expanduser().absolute())
    other = Peer(peer.expanduser(), world) if peer else None
    try:
        result = measured(world, other, embedder=embedder, rounds=rounds)
    finally:
        if other:
            other.close()
    shown(result, Console(width=170))
    result |= {"machine": f"{platform.machine()}, 1 thread", "load": os.getloadavg()[0], "torch": torch.__version__}
    if json_path:
        json_path.write_text(json.dumps(result, indent=1))
    if png:
        drawn(result["rows"], png)


if __name__ == "__main__":
    typer.run(main)
