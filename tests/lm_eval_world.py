"""Tasks of lm-evaluation-harness over local JSONL, measured by lm_eval itself and through the evaluator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from builders import event, recipe
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers import models as token_models
from transformers import PreTrainedTokenizerFast

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.artifacts.tables import put_rows
from mendloop.core.records import Item, Outcome
from mendloop.core.run_spec import RunSpec
from mendloop.core.tasks import find_task
from mendloop.core.telemetry import Telemetry
from mendloop.core.wire import artifact_of, artifact_ref
from mendloop.evaluator.adapters.outcomes import StoredOutcomes
from mendloop.evaluator.handlers import Ports, on_checkpoint_ready, on_evaluation_shard, on_shard_scored
from mendloop.v1 import checkpoint_pb2, common_pb2

NOWHERE = Artifact("file:///nowhere", "0" * 64, 0, "application/octet-stream")
WORDS = ("yes", "no", "four", "seven times", "a long answer of words")
MEAN: dict[str, Any] = {"aggregation": "mean", "higher_is_better": True}
TYPES: dict[str, dict[str, Any]] = {
    "generate_until": {
        "doc_to_target": "{{answer}}",
        "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 8},
        "metric_list": [{"metric": "exact_match", **MEAN}],
    },
    "multiple_choice": {
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{gold}}",
        "metric_list": [{"metric": name, **MEAN} for name in ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")],
    },
    "loglikelihood": {
        "doc_to_target": " {{answer}}",
        "metric_list": [
            {"metric": "acc", **MEAN},
            {"metric": "perplexity", "aggregation": "perplexity", "higher_is_better": False},
        ],
    },
    "loglikelihood_rolling": {
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [
            {"metric": "word_perplexity"},
            {"metric": "byte_perplexity"},
            {"metric": "bits_per_byte"},
        ],
    },
}


def rows(count: int, *, repeats: int = 4) -> list[dict[str, Any]]:
    """Documents for every type; some texts are longer than a context of 64 tokens."""
    return [
        {
            "question": f"What is {a} and {a * 7 % 13}?",
            "answer": WORDS[a % 5],
            "choices": [WORDS[(a + k) % 5] for k in range(4)],
            "gold": a * 3 % 4,
            "text": f"Story {a}. " + f"{WORDS[a % 5]} is {a} of {WORDS[(a + 1) % 5]}, " * (1 + a % repeats),
        }
        for a in range(count)
    ]


def written(folder: Path, kind: str, documents: list[dict[str, Any]], **changes: Any) -> Path:
    """The YAML of a task of a type, beside its data."""
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in documents))
    config = {
        "task": f"made_{kind}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "test.jsonl"}},
        "test_split": "test",
        "output_type": kind,
        "doc_to_text": "Q: {{question}}\nA:",
        **TYPES[kind],
        **changes,
    }
    path = folder / "made.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def regex_tokenizer(texts: list[str], *, vocabulary: int = 400, adds_bos: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE that keeps words apart, as GPT-2's: no token reaches over the end of a prompt.

    adds_bos: it puts BOS before every text, as Llama's.
    """
    core = Tokenizer(token_models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(texts, made)
    if adds_bos:
        bos = ("<s>", core.token_to_id("<s>"))
        core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[bos])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def lm_eval_samples(path: Path, model: Any, tokenizer: Any, *, batch_size: int = 64) -> dict[int, dict[str, Any]]:
    """lm_eval's own samples of a task through its hf backend, by document index."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    config = yaml.safe_load(path.read_text())
    files = {split: str(path.parent / name) for split, name in config["dataset_kwargs"]["data_files"].items()}
    config["dataset_kwargs"] = {"data_files": files, "cache_dir": str(path.parent / "cache")}
    found = simple_evaluate(
        model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
        tasks=[config],
        task_manager=TaskManager(include_defaults=False),  # thousands of files that no test asks for
        log_samples=True,
        bootstrap_iters=0,
    )
    return {sample["doc_id"]: sample for sample in found["samples"][config["task"]]}


class Loader:
    """A ModelLoader with one model."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def load(self, checkpoint: Artifact) -> Any:
        return self._model


def through_the_evaluator(
    root: Path, options: Mapping[str, object], model: Any, *, count: int, **suite: Any
) -> list[Outcome]:
    """All documents as search and confirm items in two shards, from CheckpointReady to EvalCompleted."""
    store, sealed_store = ArtifactStore(root / "open"), ArtifactStore(root / "sealed")
    confirm = count // 3
    settings = {"axes": ["length"], "search": count - confirm, "confirm": confirm, "sealed": 0, "options": {**options}}
    made = recipe(task="lm-eval", template="{prompt}", suite={**settings, **suite})
    items = find_task("lm-eval", options).items(counts={"search": count - confirm, "confirm": confirm}, seed=0)
    spec = RunSpec(made, NOWHERE, NOWHERE, None, put_rows(store, items, kind=Item), None, NOWHERE)
    outcomes = StoredOutcomes(store)
    ports = Ports(store, sealed_store, outcomes, StoredOutcomes(sealed_store), Loader(model), Telemetry("evaluator"))
    ready = checkpoint_pb2.CheckpointReady(
        position=common_pb2.RunPosition(run_id="r"),
        checkpoint=artifact_ref(NOWHERE),
        kind=checkpoint_pb2.CHECKPOINT_KIND_BASE,
        run_spec=artifact_ref(spec.store(store)),
    )
    shards = [emit.message for emit in on_checkpoint_ready(event(ready), ports=ports)]
    scored = [emit.message for shard in shards for emit in on_evaluation_shard(event(shard), ports=ports)]
    (completed,) = [emit.message for one in scored for emit in on_shard_scored(event(one), ports=ports)]
    whole = outcomes.find(completed.evaluation_id, "all")
    assert whole is not None
    assert whole.outcomes == artifact_of(completed.outcomes)
    return outcomes.rows(whole)


def expected(sample: Mapping[str, Any], metric: str) -> float:
    """The score that lm_eval's metric of a sample stands for: 1 / perplexity where it is one."""
    import math

    value = sample[metric]
    if metric == "perplexity":
        return math.exp(value)
    return math.exp(value[0] / value[1]) if isinstance(value, list | tuple) else float(value)
