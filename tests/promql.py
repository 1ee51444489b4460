"""The metric names in a PromQL expression, by a small tokenizer; Prometheus itself judges the grammar elsewhere."""

from __future__ import annotations

import re

_STRING = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'')
_BRACES = re.compile(r"\{[^}]*\}|\[[^\]]*\]")
_LABEL_LISTS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", re.IGNORECASE)
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})


def metric_names(expr: str) -> set[str]:
    """Names that stand for series: no function, no label, no keyword."""
    plain = _LABEL_LISTS.sub(" ", _BRACES.sub(" ", _STRING.sub(" ", expr)))
    found = set()
    for match in _NAME.finditer(plain):
        is_called = plain[match.end() :].lstrip().startswith("(")
        is_digit = match.start() and plain[match.start() - 1].isdigit()  # 1e3
        if not is_called and not is_digit and match.group().lower() not in _WORDS:
            found.add(match.group())
    return found
