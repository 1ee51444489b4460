"""Axes that any text shows: how long the prompt and the target are, and which form they have. Needs no rule.

Knows texts; knows no task.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mendloop.axes.subject import Subject
from mendloop.core.records import Axes

PROMPT_WORDS = (8, 16, 32, 64, 128, 256)
TARGET_WORDS = (1, 3, 8, 32)
OPTIONS = (2, 4, 8)
SYMBOLS = (1, 8, 32)
OPTION = re.compile(r"^\s*(?:\(?[A-Z]\)|[A-Z]\.|-)\s", re.MULTILINE)
NUMBER = re.compile(r"[-+]?[$€£]?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?")
CHOICE = re.compile(r"\(?[A-Za-z]\)|[A-Z]\.?")
DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}")
BOOLEANS = frozenset({"true", "false", "yes", "no", "valid", "invalid"})
SEPARATED = re.compile(r"\s*[,;|\n]\s*")
LONGEST_LIST_PART = 4


class FormAxes:
    """Length and format of prompt and target.

    prompt_length, target_length: words. prompt_form: question, options, expression or statement. option_count: listed
    answers. digit_count: digits in the prompt. target_type: see target_type. Axes of the target are left out where it
    is not known.
    """

    axes = ("prompt_length", "prompt_form", "option_count", "digit_count", "target_length", "target_type")

    def values(self, subject: Subject) -> Axes:
        """One value on each axis."""
        options = len(OPTION.findall(subject.prompt))
        shown = {
            "prompt_length": bucket(len(subject.prompt.split()), PROMPT_WORDS),
            "prompt_form": _prompt_form(subject.prompt, option_count=options),
            "option_count": bucket(options, OPTIONS) if options else "none",
            "digit_count": bucket(sum(c.isdigit() for c in subject.prompt), SYMBOLS, lowest=0),
        }
        if subject.target:
            shown["target_length"] = bucket(len(subject.target.split()), TARGET_WORDS)
            shown["target_type"] = target_type(subject.target)
        return {axis: (value,) for axis, value in shown.items()}


def bucket(n: int, bounds: Sequence[int], *, lowest: int = 1) -> str:
    """The range of a count: bounds (8, 16) give 1-8, 9-16 and 17+; what is below `lowest` has the range of 0."""
    if n < lowest or n == 0:
        return "0"
    low = max(lowest, 1)
    for bound in bounds:
        if n <= bound:
            return str(bound) if low == bound else f"{low}-{bound}"
        low = bound + 1
    return f"{low}+"


def target_type(target: str) -> str:
    """number, choice, boolean, date, list, symbols, word or text: the first that fits.

    A list has two or more short parts between commas, semicolons, bars or line ends.
    """
    text = target.strip()
    if text.lower().rstrip(".") in BOOLEANS:
        return "boolean"
    if DATE.fullmatch(text):
        return "date"
    if NUMBER.fullmatch(text):
        return "number"
    if CHOICE.fullmatch(text):
        return "choice"
    if text and not any(c.isalnum() for c in text):
        return "symbols"
    parts = SEPARATED.split(text.strip("[]{}()"))
    if len(parts) > 1 and all(part and len(part.split()) <= LONGEST_LIST_PART for part in parts):
        return "list"
    return "word" if len(text.split()) == 1 else "text"


def _prompt_form(prompt: str, *, option_count: int) -> str:
    if option_count:
        return "options"
    text = prompt.strip()
    words = re.findall(r"[A-Za-z]{2,}", text)
    if len(words) * 2 < len(text.split()):
        return "expression"
    return "question" if "?" in text else "statement"
