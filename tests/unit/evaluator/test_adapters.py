"""Checkpoints from the store and kept outcomes."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import NO_ARTIFACT, outcome
from tiny_models import WORDS, save, tiny_llama, word_tokenizer

from mendloop.artifacts.store import Artifact, ArtifactStore
from mendloop.core.errors import CorruptArtifact
from mendloop.evaluator.adapters.checkpoints import StoredCheckpoints
from mendloop.evaluator.adapters.outcomes import StoredOutcomes
from mendloop.evaluator.domain.scoring import Cost
from mendloop.models.checkpoint import save_checkpoint


def _checkpoint(store: ArtifactStore, directory: Path, *, seed: int) -> Artifact:
    return save_checkpoint(store, save(directory, tiny_llama(len(WORDS), seed=seed), word_tokenizer()))


def test_a_checkpoint_is_loaded_once_until_another_is_asked_for(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path / "store")
    first, second = (_checkpoint(store, tmp_path / f"model-{seed}", seed=seed) for seed in (0, 1))
    checkpoints = StoredCheckpoints(store, cache=tmp_path / "work" / "checkpoints")

    model = checkpoints.load(first)

    assert checkpoints.load(first) is model
    assert checkpoints.load(second) is not model
    assert len(model.generate(["IN: w1 OUT:"], max_new_tokens=4)) == 1
    assert (tmp_path / "work" / "checkpoints" / first.sha256).is_dir()


def test_a_checkpoint_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(CorruptArtifact, match="is missing"):
        StoredCheckpoints(ArtifactStore(tmp_path), cache=tmp_path / "work").load(NO_ARTIFACT)


def test_kept_outcomes_are_found_with_their_cost(tmp_path: Path) -> None:
    kept = StoredOutcomes(ArtifactStore(tmp_path)).keep(
        "e1", "0-of-2", outcomes=[outcome("a"), outcome("b", score=0.0)], cost=Cost(1.5, 0.0, 7)
    )

    elsewhere = StoredOutcomes(ArtifactStore(tmp_path))

    assert elsewhere.find("e1", "0-of-2") == kept
    assert [row.item_id for row in elsewhere.rows(kept)] == ["a", "b"]
    assert elsewhere.find("e1", "1-of-2") is None
    assert elsewhere.find("e2", "0-of-2") is None
