"""SCAN from our grammar is the published SCAN, pair by pair."""

from pathlib import Path

import pytest

from mendloop.examples.scan.grammar import all_pairs, interpret, split_add_primitive

PUBLISHED = Path(__file__).resolve().parents[4] / "shared" / "data" / "scan"


def _published(name: str) -> set[tuple[str, str]]:
    path = PUBLISHED / name
    if not path.exists():
        pytest.skip(f"published SCAN file absent: {path}")
    pairs = set()
    for line in path.read_text().splitlines():
        command, actions = line.removeprefix("IN: ").split(" OUT: ")
        pairs.add((command, actions))
    return pairs


def test_grammar_yields_the_published_pairs() -> None:
    ours = [(pair.command, pair.actions) for pair in all_pairs()]
    assert len(ours) == 20_910
    assert set(ours) == _published("tasks.txt")


def test_add_jump_split_is_the_published_split() -> None:
    train, test = split_add_primitive("jump")
    assert {(p.command, p.actions) for p in train} == _published("tasks_train_addprim_jump.txt")
    assert {(p.command, p.actions) for p in test} == _published("tasks_test_addprim_jump.txt")


@pytest.mark.parametrize("command", ["", "fly", "turn", "jump around", "walk and", "run left left", "jump twice twice"])
def test_command_outside_the_grammar_is_refused(command: str) -> None:
    with pytest.raises(ValueError, match="not a SCAN command"):
        interpret(command)
