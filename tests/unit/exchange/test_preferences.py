"""A batch of preferences becomes a data set that a DPO trainer reads; what cannot be read back is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from exchange_world import PREFERENCES, export, put_batch
from training import tiny_checkpoint

from mendloop.artifacts.store import ArtifactStore
from mendloop.core.errors import Permanent
from mendloop.exchange.batches import StoredBatch, find_batch
from mendloop.exchange.folder import write_folder


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


@pytest.fixture
def batch(store: ArtifactStore) -> StoredBatch:
    return find_batch(store, put_batch(store, preferences=PREFERENCES).sha256)


def test_hugging_face_opens_the_pairs_and_a_dpo_trainer_trains_on_them(
    store: ArtifactStore, batch: StoredBatch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="needs the package datasets (extra lm-eval)")
    trl = pytest.importorskip("trl", reason="trains with TRL: pip install trl")
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    write_folder(tmp_path / "out", export(store, batch, "hf"), force=False)
    start = tiny_checkpoint(tmp_path / "start")
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path / "dpo"),
        max_steps=1,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        disable_tqdm=True,
    )

    rows = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    trainer = trl.DPOTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(start),
        args=arguments,
        train_dataset=rows,
        processing_class=transformers.AutoTokenizer.from_pretrained(start),
    )
    trained = trainer.train()

    assert [(row["prompt"], row["chosen"], row["rejected"]) for row in rows] == [
        (pair.prompt, pair.chosen, pair.rejected) for pair in PREFERENCES
    ]
    assert rows[0]["axes"] == [{"axis": "verb", "values": ["jump"]}]
    assert trained.training_loss == pytest.approx(0.693, abs=0.01)  # the model is its own reference at the first step


def test_the_card_says_that_they_are_preferences(store: ArtifactStore, batch: StoredBatch) -> None:
    text = export(store, batch, "hf")["README.md"].decode()

    assert "2 preferences that the run made in round 1: prompt, chosen and rejected answer" in text


@pytest.mark.parametrize("format_name", ["label-studio", "argilla", "jsonl"])
def test_formats_that_people_review_refuse_pairs(store: ArtifactStore, batch: StoredBatch, format_name: str) -> None:
    with pytest.raises(Permanent, match=r"2 preferences, and a review of pairs cannot be read back.*--format hf"):
        export(store, batch, format_name)
