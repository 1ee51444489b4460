"""bergson's side of benchmarks/attribution.py: run by the Python of its own environment, commands on stdin.

Everything goes through bergson's public functions: build, approximate_hessians, hessian_pipeline, trak, Attributor.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import numpy as np
import torch
from bergson import Attributor, collect_gradients
from bergson.build import build
from bergson.cli.trak import trak
from bergson.config.config import (
    DataConfig,
    HessianConfig,
    HessianPipelineConfig,
    IndexConfig,
    InversionConfig,
    PreprocessConfig,
    QuerySetConfig,
    ScoreConfig,
    TrakConfig,
)
from bergson.data import allocate_batches, load_module_gradients, load_scores
from bergson.hessians.hessian_approximations import approximate_hessians
from bergson.hessians.pipeline import hessian_pipeline
from bergson.utils.worker_utils import create_processor, setup_data_pipeline, setup_model_and_peft
from datasets import Dataset

TOKENS = 2048


class Peer:
    """One checkpoint, one training set, one set of queries."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.folder = Path(spec["folder"])
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.model, self.dim = spec["model"], int(spec["projection_dim"])
        self.damping = [float(value) for value in spec["damping"]]
        for name in ("train", "queries", "speed"):
            Dataset.from_list(spec[name]).save_to_disk(str(self.folder / name))
        self.query_rows = spec["queries"]

    def config(self, name: str, *, data: str = "train", dim: int | None = None, **more: Any) -> IndexConfig:
        path = self.folder / "runs" / name
        shutil.rmtree(path, ignore_errors=True)
        return IndexConfig(
            run_path=str(path),
            overwrite=True,
            model=self.model,
            data=DataConfig(dataset=str(self.folder / data)),
            projection_dim=self.dim if dim is None else dim,
            token_batch_size=TOKENS,
            **more,
        )

    def stores(self) -> dict[str, float]:
        """Gradient stores of the training examples and queries, and the Fisher; bytes of one example."""
        build(self.config("train"), PreprocessConfig())
        build(self.config("query", data="queries"), PreprocessConfig())
        # use_dataset_labels=False gave the same numbers here
        approximate_hessians(self.config("fisher"), HessianConfig(method="autocorrelation", use_dataset_labels=True))
        size = (self.folder / "runs/train/gradients.bin").stat().st_size
        return {"bytes": size / len(Dataset.load_from_disk(str(self.folder / "train")))}

    def scores(self) -> dict[str, Any]:
        """Scores of every method, written as (queries, examples) arrays."""
        found = {"bergson gradient cosine": self._projected(unit=True)}
        for damping in self.damping:
            found[f"bergson projected, preconditioned|{damping}"] = self._projected(hessian="fisher", damping=damping)
            found[f"bergson TrackStar|{damping}"] = self._projected(hessian="fisher", damping=damping, unit=True)
        started = time.perf_counter()
        for damping in self.damping:
            found[f"bergson EKFAC|{damping}"] = self._ekfac(damping)
        ekfac_s = (time.perf_counter() - started) / len(self.damping)
        found["bergson TRAK"] = self._trak()
        for name, values in found.items():
            np.save(self.folder / f"{name.replace('|', '_')}.npy", values)
        return {"names": list(found), "ekfac_s": ekfac_s}

    def _projected(self, *, hessian: str = "", damping: float = 0.1, unit: bool = False) -> Any:
        attributor = self._attributor(hessian=hessian, damping=damping, unit=unit)
        stored = load_module_gradients(self.folder / "runs/query")
        queries = {name: torch.from_numpy(np.array(stored[name])) for name in attributor.ordered_modules}
        values, places = attributor.search(queries, k=None)
        return np.take_along_axis(values.numpy(), places.argsort(dim=1).numpy(), axis=1)

    def _attributor(self, *, hessian: str = "fisher", damping: float = 0.1, unit: bool = False) -> Attributor:
        return Attributor(
            self.folder / "runs/train",
            unit_norm=unit,
            hessian_path=self.folder / "runs" / hessian if hessian else None,
            inversion_cfg=InversionConfig(damping_factor=damping),
        )

    def _ekfac(self, damping: float) -> Any:
        config = self.config(f"ekfac-{damping}", dim=0)
        hessian_pipeline(
            config,
            HessianConfig(method="kfac", ev_correction=True),
            ScoreConfig(),
            PreprocessConfig(),
            HessianPipelineConfig(
                query=QuerySetConfig(dataset=str(self.folder / "queries")),
                inversion_cfg=InversionConfig(damping_factor=damping, apply_batch_size=64),
            ),
        )
        return np.asarray(load_scores(Path(config.run_path) / "scores")[:]).T

    def _trak(self) -> Any:
        config = self.config("trak", dim=256, loss_fn="log_odds", projection_target="global")
        # its default damping of 0 needs more examples than dimensions
        trak(
            config,
            TrakConfig(
                query=QuerySetConfig(dataset=str(self.folder / "queries")),
                preprocess_cfg=PreprocessConfig(inversion_cfg=InversionConfig(damping_factor=0.1)),
            ),
        )
        return np.asarray(load_scores(Path(config.run_path) / "scores")[:]).T

    def index(self) -> dict[str, float]:
        """CPU seconds to collect and store the gradients of the speed set; model and token ids are there before."""
        config = self.config("speed", data="speed")
        config.partial_run_path.mkdir(parents=True, exist_ok=True)
        data, count = setup_data_pipeline(config)
        model, modules = setup_model_and_peft(config)
        processor = create_processor(model, config, modules)
        batches = allocate_batches(data["length"][:], TOKENS)
        started = time.process_time()
        collect_gradients(model, data, processor, config, batches=batches, target_modules=modules)
        return {"s": time.process_time() - started, "count": count}

    def query(self, times: int) -> dict[str, float]:
        """CPU milliseconds of one query: its gradient, the preconditioner, and all scores."""
        model, _ = setup_model_and_peft(self.config("unused"))
        attributor = self._attributor()
        spent = []
        for row in self.query_rows[:times]:
            started = time.process_time()
            ids, labels = torch.tensor([row["input_ids"]]), torch.tensor([row["labels"]])
            with attributor.trace(model.base_model, None):
                logits = model(ids).logits[:, :-1]
                torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
                ).backward()
                model.zero_grad()
            spent.append(time.process_time() - started)
        return {"ms": 1000 * float(np.median(spent))}


def main() -> None:
    """Answer each command with one line of JSON on the real stdout; bergson's own lines go to stderr."""
    torch.set_num_threads(1)
    peer = Peer(json.loads(Path(sys.argv[1]).read_text()))
    commands = {"stores": peer.stores, "scores": peer.scores, "index": peer.index, "query": lambda: peer.query(20)}
    for line in sys.stdin:
        with redirect_stdout(sys.stderr):
            answer = commands[line.strip()]()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
