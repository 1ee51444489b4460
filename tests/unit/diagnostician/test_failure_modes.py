"""Failures form named modes with their nearest corpus clusters; modes are stored by version and assign new failures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from diagnosis_cases import GREEN, ToyModel, answer_of, case_of, corpus_of, wrong_on

from mendloop.artifacts.store import ArtifactStore
from mendloop.axes.term_clusters import cluster
from mendloop.core.errors import CorruptArtifact
from mendloop.diagnostician.adapters.failure_mode_store import MEDIA_TYPE, current_modes, load_modes, save_modes
from mendloop.diagnostician.domain.case import Case, Observation
from mendloop.diagnostician.domain.failure_modes import fit_modes, table_of, terms_of
from mendloop.diagnostician.domain.mode_evidence import modes_of


def _failures(case: Case) -> list[Observation]:
    return [row for sample in case.samples for row in sample.failed]


def _two_ways(prompt: str) -> str:
    """Green is taken for blue; where the thing is big the answer loses its end instead."""
    words = answer_of(prompt).split()
    if words[1] != "green":
        return " ".join(words)
    return words[0] if int(words[0][5:]) % 2 else wrong_on("green")(prompt)


def test_two_ways_to_fail_are_two_modes_with_their_own_words() -> None:
    case = case_of(ToyModel(answers=_two_ways))
    failures = _failures(case)
    rows = table_of(fit_modes(failures, case.corpus, task=case.task, seed=1), failures, task=case.task)
    assert len(rows) == 2
    assert sum(row.count for row in rows) == len(failures)
    assert sum(row.share for row in rows) == pytest.approx(1)
    by_name = {row.name: row for row in rows}
    assert any("blue for green" in name for name in by_name)
    assert any("too short" in name for name in by_name)
    short = next(row for name, row in by_name.items() if "too short" in name)
    assert int(short.example.item.prompt.split()[1][5:]) % 2 == 1


def test_the_nearest_corpus_cluster_holds_the_same_words() -> None:
    case = case_of(ToyModel(answers=wrong_on("green")))
    failures = _failures(case)
    [row] = table_of(fit_modes(failures, case.corpus, task=case.task, seed=1), failures, task=case.task)
    name, similarity = row.nearest[0]
    assert "green" in name
    assert similarity > row.nearest[1][1]


def test_terms_say_what_would_have_made_a_failure_right() -> None:
    case = case_of(ToyModel(answers=lambda prompt: answer_of(prompt).upper(), never_stops=lambda prompt: False))
    terms = terms_of(_failures(case)[0], task=case.task)
    assert "accepted by the second scorer" in terms
    stopping = case_of(ToyModel(never_stops=lambda prompt: True))
    assert {"ran to the limit", "right until it should stop"} <= set(
        terms_of(_failures(stopping)[0], task=stopping.task)
    )


def test_stored_modes_assign_the_failures_of_another_checkpoint(tmp_path: Path) -> None:
    store, first = ArtifactStore(tmp_path), case_of(ToyModel(answers=_two_ways))
    modes = fit_modes(_failures(first), first.corpus, task=first.task, seed=1)
    artifact = save_modes(store, modes, name="run-1")
    later = case_of(ToyModel(answers=wrong_on("green")), conditions=GREEN)
    kept = current_modes(store, name="run-1")
    assert kept == load_modes(store, artifact) == modes
    [row] = table_of(kept, _failures(later), task=later.task)
    assert "blue for green" in row.name


def test_a_new_version_becomes_current_and_the_old_one_stays(tmp_path: Path) -> None:
    store, case = ArtifactStore(tmp_path), case_of(ToyModel(answers=_two_ways))
    old = fit_modes(_failures(case), case.corpus, task=case.task, seed=1)
    new = fit_modes(_failures(case), corpus_of(per_colour={"green": 0}), task=case.task, seed=1)
    first = save_modes(store, old, name="run-1")
    save_modes(store, new, name="run-1")
    assert old.version != new.version
    assert current_modes(store, name="run-1") == new
    assert load_modes(store, first) == old
    assert current_modes(store, name="run-2") is None


def test_damaged_modes_are_refused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    artifact = store.put(
        b'{"format": 1, "modes": {"clusters": [], "weights": []}, "corpus": null}', media_type=MEDIA_TYPE
    )
    with pytest.raises(CorruptArtifact, match="fit them again"):
        load_modes(store, artifact)


def test_the_row_of_evidence_attaches_its_table() -> None:
    modes, row = modes_of(case_of(ToyModel(answers=_two_ways)))
    assert modes is not None
    assert (len(modes.modes.clusters), row.n) == (2, 40)
    assert row.attachment is not None
    assert len(row.attachment.document["rows"]) == 2  # type: ignore[arg-type]  # a list of lists
    case = case_of(ToyModel(answers=_two_ways))
    empty = tuple(replace(sample, failed=()) for sample in case.samples)
    nothing, none = modes_of(replace(case, samples=empty))  # type: ignore[arg-type]  # two samples
    assert nothing is None
    assert none.n == 0


def test_the_same_bags_give_the_same_clusters_and_one_thing_is_one_cluster() -> None:
    bags = [["a", "b"]] * 5 + [["c", "d"]] * 3
    assert cluster(bags, seed=3) == cluster(bags, seed=3)
    assert [one.share for one in cluster(bags, seed=3).clusters] == [5 / 8, 3 / 8]
    assert len(cluster([["a"]] * 4, seed=0).clusters) == 1
    with pytest.raises(ValueError, match="nothing to cluster"):
        cluster([], seed=0)
