"""Checks steps that carry their arithmetic: annotations as GSM8K's <<a+b=c>>, and plain equations. Knows no model.

Wrong can be the sum of an annotation or of an equation in the text ("sum"), the number written after an annotation
("copy") or its sign ("sign"). A whole number below or above a broken one is rounding. Whether the right sum was chosen
is not visible here.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from mendloop.steps.supervision import Step, StepVerdict, lines

OPERATIONS: dict[type[ast.operator], str] = {
    ast.Add: "addition",
    ast.Sub: "subtraction",
    ast.Mult: "multiplication",
    ast.Div: "division",
}
MIXED = "mixed"
TOLERANCE = Fraction(1, 100)
"""Relative or absolute (the larger): GSM8K rounds money to cents and long decimals to two places."""
_NUMBER = r"\d[\d,]*+(?: \d{3}(?!\d))*+(?:\.\d+)?+"
_ANNOTATION = re.compile(rf"<<([^<>]*)>>([-−]?\$?\s?[-−]?{_NUMBER})?")
_TERMS = r"[\d\s$,.()+*/x×÷−-]*"
_EQUATION = re.compile(
    rf"(?<![\w.])([($\d]{_TERMS}[-+*/x×÷−]{_TERMS}?)\s*=\s*\$?(-?{_NUMBER})(?!\s*[-−+*/x×÷%:^(=]|[a-z])"
)
_CONTINUES = re.compile(r"[-−+*/×÷<>=^%]\s*$")
"""Text before an equation that shows that it begins in the middle of another one."""
_TIMES = re.compile(r"(?<=[\d)])\s*[xX]\s*(?=[\d($])")
_GLYPHS = str.maketrans({"×": "*", "÷": "/", "−": "-", "$": "", ",": ""})
LONGEST = 200
"""Characters of an expression that is evaluated; a longer one is unknown."""


@dataclass(frozen=True, slots=True)
class Sum:
    """An evaluated expression: its value, and the operation that it consists of ("" for a bare number)."""

    value: Fraction
    operation: str


def evaluate(expression: str) -> Sum | None:
    """The exact value of +, -, *, / over numbers; None for anything else, for division by zero, for huge texts.

    Percent signs and letters make an expression unknown; thousands separators and dollar signs do not.
    """
    text = _TIMES.sub("*", re.sub(r"(?<=\d) (?=\d{3}(?!\d))", "", expression.strip())).translate(_GLYPHS)
    if len(text) > LONGEST or not re.fullmatch(r"[\d\s.+\-*/()]+", text) or "**" in text or "//" in text:
        return None
    text = re.sub(r"(?<![\d.])0+(?=\d)", "", text)
    try:
        tree = ast.parse(text, mode="eval").body
        found = {type(node.op) for node in ast.walk(tree) if isinstance(node, ast.BinOp)}
        value = _value(tree)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        return None
    names = {OPERATIONS[kind] for kind in found}
    return Sum(value, names.pop() if len(names) == 1 else MIXED if names else "")


@dataclass(frozen=True, slots=True)
class ArithmeticChecker:
    """A StepChecker: a step a line; right where it has arithmetic and all of it holds, unknown where it has none."""

    def check(self, prompt: str, output: str) -> list[StepVerdict]:
        """The verdict of each line."""
        return [check_step(step) for step in lines(output)]


def check_step(step: Step) -> StepVerdict:
    """The verdict on one step. The operation is that of the wrong sum, else that of the step's first sum."""
    findings = list(_findings(step.text))
    for operation, reason in findings:
        if reason:
            return StepVerdict(step, "wrong", operation, reason)
    if not findings:
        return StepVerdict(step, "unknown")
    return StepVerdict(step, "right", findings[0][0])


def _findings(text: str) -> Iterator[tuple[str, str]]:
    """(operation, what is wrong or nothing) of each piece of arithmetic that can be read."""
    for match in _ANNOTATION.finditer(text):
        left, equals, right = match[1].rpartition("=")
        done, said = evaluate(left), evaluate(right)
        if not equals or done is None or said is None or not done.operation:
            continue
        if not _near(done.value, said.value):
            yield done.operation, f"sum: {left.strip()} is {_shown(done.value)}, not {right.strip()}"
            continue
        written = evaluate(match[2]) if match[2] else None
        if written is not None and not _is_copy(written.value, of=said.value):
            kind = "sign" if _is_copy(-written.value, of=said.value) else "copy"
            yield done.operation, f"{kind}: {right.strip()} was computed and {match[2].strip()} is written"
            continue
        yield done.operation, ""
    plain = _ANNOTATION.sub(lambda match: match[2] or match[1].rpartition("=")[2], text)
    for match in _EQUATION.finditer(plain):
        if _CONTINUES.search(plain[: match.start()]):
            continue
        done, said = evaluate(match[1]), evaluate(match[2])
        if done is None or said is None or not done.operation:
            continue
        holds = _is_copy(said.value, of=done.value) or _is_copy(-said.value, of=done.value)
        yield done.operation, "" if holds else f"sum: {match[1].strip()} is {_shown(done.value)}, not {match[2]}"


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number):
            return Fraction(str(number))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=op, right=right):
            first, second = _value(left), _value(right)
            if isinstance(op, ast.Add):
                return first + second
            if isinstance(op, ast.Sub):
                return first - second
            if isinstance(op, ast.Mult):
                return first * second
            if isinstance(op, ast.Div):
                return first / second
    raise ValueError(f"not arithmetic: {ast.dump(node)}")


def _near(first: Fraction, second: Fraction) -> bool:
    return abs(first - second) <= TOLERANCE * max(Fraction(1), abs(first))


def _is_copy(written: Fraction, *, of: Fraction) -> bool:
    return _near(of, written) or written in (math.floor(of), math.ceil(of))


def _shown(value: Fraction) -> str:
    return f"{float(value):g}"
