"""Checks the actions of a SCAN command against the interpreter: the first wrong action and the word that asks for it.

Knows the grammar; knows no model.
"""

from __future__ import annotations

from dataclasses import dataclass

from mendloop.examples.scan.axes import phrases
from mendloop.examples.scan.grammar import DIRECTIONS, MANNERS, REPETITIONS, interpret
from mendloop.steps.supervision import Step, StepVerdict

END = "end"
"""The operation of an action after the last one that the command asks for."""


@dataclass(frozen=True, slots=True)
class ScanChecker:
    """A StepChecker: a step an action. After the first wrong action every later one is unknown."""

    def check(self, prompt: str, output: str) -> list[StepVerdict]:
        """Verdicts on the output's actions, and on the first missing one where the output stops early.

        Raises ValueError for a prompt that is no SCAN command.
        """
        wanted, words = interpret(prompt).split(), operations(prompt)
        said = output.split()
        verdicts: list[StepVerdict] = []
        for index, action in enumerate(said):
            step = Step(index, action)
            if verdicts and verdicts[-1].status != "right":
                verdicts.append(StepVerdict(step, "unknown"))
            elif index >= len(wanted):
                verdicts.append(StepVerdict(step, "wrong", END, "the command asks for no more actions"))
            elif action != wanted[index]:
                verdicts.append(StepVerdict(step, "wrong", words[index], f"{wanted[index]} is asked for"))
            else:
                verdicts.append(StepVerdict(step, "right", words[index]))
        if len(said) < len(wanted) and all(verdict.status == "right" for verdict in verdicts):
            missing = Step(len(said), "")
            verdicts.append(StepVerdict(missing, "wrong", words[len(said)], f"{wanted[len(said)]} is missing"))
        return verdicts


def operations(command: str) -> list[str]:
    """For each action of a command the word that asks for it.

    A repeated action is its "twice" or "thrice"; a turn is its manner or direction; an act after the first of
    "around" is "around", any other its verb.
    """
    parts, conjunction = phrases(command)
    ordered = reversed(parts) if conjunction == "after" else parts
    return [word for part in ordered for word in _phrase(part)]


def _phrase(phrase: str) -> list[str]:
    words = phrase.split()
    repetition = words[-1] if words[-1] in REPETITIONS else ""
    base = " ".join(words[:-1]) if repetition else phrase
    verb = base.split()[0]
    manner = next((word for word in base.split() if word in MANNERS), "")
    direction = next((word for word in base.split() if word in DIRECTIONS), "")
    once = [
        (manner or direction) if action.startswith("I_TURN") else manner if manner == "around" and at > 1 else verb
        for at, action in enumerate(interpret(base).split())
    ]
    return once + [repetition] * (len(once) * (REPETITIONS.get(repetition, 1) - 1))
