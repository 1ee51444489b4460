"""Owns the language of modular arithmetic: questions, wordings, worked steps. Knows neither items nor models.

"compute 3 plus zel times 2" is worked from left to right: "3 plus 5 is 1 ; 1 times 2 is 2 ; answer 2".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mendloop.core.records import Axes

MODULUS = 7
NUMBERS = tuple(map(str, range(MODULUS)))
OPERATIONS: Mapping[str, Callable[[int, int], int]] = {
    "plus": lambda a, b: a + b,
    "minus": lambda a, b: a - b,
    "times": lambda a, b: a * b,
    "star": lambda a, b: 2 * a + b * b + 1,
}
"""star is invented, so nobody knows it but from the data."""
CONSTANTS = {"zel": 3, "mip": 5, "tog": 0, "dar": 6, "fen": 2, "lub": 4}
VARIABLES = tuple(f"{first}{second}" for first in "bdgk" for second in "aeiou")
"""Names without a value of their own; they stand only where the prompt gives them one."""
OPENINGS = {"compute": "compute", "question": "what is"}
UNUSUAL_OPENING = "evaluate"
UNUSUAL_WORDS = {"plus": "add", "minus": "less", "times": "by", "star": "asterisk"}
"""Synonyms that no corpus has."""
UNUSUAL = "unusual"
ANSWER = "answer"
NONE = "none"
AXES = ("operation", "first", "last", "depth", "table", "constant", "operand", "wording")

_OPERATION_OF = {word: word for word in OPERATIONS} | {other: word for word, other in UNUSUAL_WORDS.items()}
_NAMES = (*CONSTANTS, *VARIABLES)


@dataclass(frozen=True, slots=True)
class Question:
    """One question. terms are numbers and names, one more than operations; given are values that the prompt states."""

    terms: tuple[str, ...]
    operations: tuple[str, ...]
    wording: str
    given: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.terms) != len(self.operations) + 1 or not self.operations:
            raise ValueError(
                f"{self.terms} with {self.operations} is no question: it has one term more than operations"
            )

    @property
    def prompt(self) -> str:
        """The question in its wording, after what it gives."""
        opening = OPENINGS.get(self.wording, UNUSUAL_OPENING)
        words = self.operations if self.wording != UNUSUAL else tuple(UNUSUAL_WORDS[word] for word in self.operations)
        pairs = (word for pair in zip(words, self.terms[1:], strict=True) for word in pair)
        return " ".join((*map(fact, self.given, self.given.values()), opening, self.terms[0], *pairs))

    @property
    def expression(self) -> str:
        """The question whatever its wording and what it gives."""
        pairs = (word for pair in zip(self.operations, self.terms[1:], strict=True) for word in pair)
        return " ".join((self.terms[0], *pairs))

    @property
    def values(self) -> tuple[int, ...]:
        """The numbers that the terms stand for. Raises KeyError for a variable without a value."""
        known = {**CONSTANTS, **self.given}
        return tuple(int(term) if term in NUMBERS else known[term] for term in self.terms)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a solution."""

    left: int
    operation: str
    right: int
    result: int

    @property
    def text(self) -> str:
        """As a completion says it."""
        return f"{self.left} {self.operation} {self.right} is {self.result}"


def fact(name: str, value: int) -> str:
    """How a prompt or a reference states a value."""
    return f"{name} is {value} ."


def solve(question: Question, *, read_as: Mapping[str, str] | None = None) -> tuple[Step, ...]:
    """The steps from left to right; read_as does an operation as another one, as a wrong label would."""
    values, steps = question.values, []
    left = values[0]
    for operation, right in zip(question.operations, values[1:], strict=True):
        done = (read_as or {}).get(operation, operation)
        result = OPERATIONS[done](left, right) % MODULUS
        steps.append(Step(left, operation, right, result))
        left = result
    return tuple(steps)


def pieces(steps: Sequence[Step]) -> tuple[str, ...]:
    """A completion in pieces: each step, then the answer."""
    return (*(f"{step.text} ; " for step in steps), f"{ANSWER} {steps[-1].result}")


def completion(steps: Sequence[Step]) -> str:
    """The worked completion."""
    return "".join(pieces(steps))


def read(prompt: str) -> Question | None:
    """The question in a prompt, whatever surrounds it; None where there is none.

    Case, punctuation and words outside the language are passed over; of several expressions the longest counts.
    """
    text = prompt.lower()
    words = re.findall(r"\w+", text)
    given = {a: int(c) for a, b, c in zip(words, words[1:], words[2:], strict=False) if _states(a, b, c)}
    chain = _longest_chain(words)
    if len(chain) < 3 or any(word in VARIABLES and word not in given for word in chain[::2]):
        return None
    is_unusual = any(word in UNUSUAL_WORDS.values() for word in chain) or UNUSUAL_OPENING in words
    usual = next((name for name, opening in OPENINGS.items() if opening.split()[0] in words), "compute")
    operations = tuple(_OPERATION_OF[word] for word in chain[1::2])
    return Question(tuple(chain[::2]), operations, UNUSUAL if is_unusual else usual, given)


def axes_of(question: Question) -> Axes:
    """Axis values of a question. table names what each step needs: "times 4" is four times something or its reverse."""
    steps = solve(question)
    rows = (f"{step.operation} {number}" for step in steps for number in (step.left, step.right))
    constants = tuple(dict.fromkeys(term for term in question.terms if term in CONSTANTS))
    return {
        "operation": tuple(dict.fromkeys(question.operations)),
        "first": (question.operations[0],),
        "last": (question.operations[-1],),
        "depth": (str(len(steps)),),
        "table": tuple(dict.fromkeys(rows)),
        "constant": constants or (NONE,),
        "operand": ("name" if any(term not in NUMBERS for term in question.terms) else "number",),
        "wording": (question.wording,),
        "book": ("open" if question.given else "closed",),
    }


def _states(name: str, word: str, value: str) -> bool:
    return name in _NAMES and word == "is" and value in NUMBERS


def _longest_chain(words: Sequence[str]) -> list[str]:
    """The longest run of term, operation, term, ..."""
    best: list[str] = []
    for start in range(len(words)):
        chain: list[str] = []
        for word in words[start:]:
            fits = word in _OPERATION_OF if len(chain) % 2 else word in NUMBERS or word in _NAMES
            if not fits:
                break
            chain.append(word)
        whole = chain[: len(chain) - (len(chain) + 1) % 2]
        best = whole if len(whole) > len(best) else best
    return best
