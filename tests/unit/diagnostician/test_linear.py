"""The linear classifier reads what stands in the states; its control task shows what it learns by heart."""

from __future__ import annotations

from collections import Counter

import numpy as np

from mendloop.diagnostician.domain.linear import bases, best_of, control_labels, fits, telling_positions, types_of

LABELS = [at % 4 for at in range(200)]


def states(*, signal_layer: int, seed: int, labels: list[int] = LABELS, hidden: int = 24) -> np.ndarray:
    """Three layers of noise; one of them holds the label."""
    rng = np.random.default_rng(seed)
    states_NLH = rng.normal(size=(len(labels), 3, hidden))
    directions_CH = np.random.default_rng(99).normal(size=(4, hidden))
    states_NLH[:, signal_layer] += 2 * directions_CH[labels]
    return states_NLH


def test_the_layer_that_holds_the_label_is_found_and_reads_new_rows() -> None:
    chosen, fresh = ((states(signal_layer=1, seed=seed), LABELS) for seed in (2, 3))
    fitted = best_of(fits(bases(states(signal_layer=1, seed=1)), LABELS), [chosen])
    assert fitted.layer == 1
    assert fitted.hits(fresh) / len(LABELS) > 0.95


def test_noise_is_read_at_chance_also_where_the_best_of_many_layers_was_chosen() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=(200, 12, 64)) for _ in range(3)]
    fitted = best_of(fits(bases(noise[0]), LABELS), [(noise[1], LABELS)])
    assert 0.13 < fitted.hits((noise[2], LABELS)) / 200 < 0.37, "1/4 and three standard errors"


def test_more_features_than_rows_are_no_obstacle() -> None:
    labels = LABELS[:40]
    train, fresh = (states(signal_layer=0, seed=seed, labels=labels, hidden=300) for seed in (1, 2))
    fitted = best_of(fits(bases(train), labels), [(train, labels)])
    assert fitted.hits((fresh, labels)) > 30


def test_groups_count_alike_and_an_empty_one_does_not() -> None:
    train = states(signal_layer=1, seed=1)
    candidates = fits(bases(train), LABELS)
    rows = (states(signal_layer=1, seed=2), LABELS)
    assert best_of(candidates, [rows, (train[:0], [])]) == best_of(candidates, [rows])


def test_a_state_that_only_tells_the_word_learns_the_control_task_as_well() -> None:
    types = [at % 10 for at in range(200)]
    words = np.eye(10)[types][:, None] + np.random.default_rng(0).normal(scale=0.1, size=(200, 1, 10))
    true = [kind % 4 for kind in types]
    drawn = control_labels(types, true, seed=1)
    for labels in (true, [drawn[kind] for kind in types]):
        fitted = best_of(fits(bases(words[:100]), labels[:100]), [(words[:100], labels[:100])])
        assert fitted.hits((words[100:], labels[100:])) == 100


def test_control_labels_come_as_often_as_the_true_ones_and_are_the_types_own() -> None:
    labels = [1] * 90 + [2] * 10
    drawn = control_labels(range(3000), labels, seed=5)
    assert drawn == control_labels(range(3000), labels, seed=5)
    assert 0.87 < Counter(drawn.values())[1] / 3000 < 0.93


def test_a_type_is_made_of_the_tokens_that_tell_the_answer() -> None:
    prompts = [(0, at % 5, at // 5 % 3, at % 2, 9) for at in range(90)]
    assert telling_positions(prompts, [row[1] for row in prompts]) == (-4,)
    assert set(telling_positions(prompts, [row[1] * 3 + row[2] for row in prompts])) == {-4, -3}
    assert types_of([*prompts[:2], (7, 9)], (-4, -1)) == [(0, 9), (1, 9), (-1, 9)]


def test_where_no_token_tells_more_than_the_commonest_answer_each_prompt_is_a_type() -> None:
    labels = np.random.default_rng(1).integers(0, 3, size=60).tolist()
    prompts = [(0, at, 9) for at in range(60)]
    assert telling_positions(prompts, labels) == ()
    assert types_of(prompts, ()) == prompts
