"""Who asks, and what they may do: scopes, principals, and which runs a principal sees. Knows no web, no storage.

Scopes are ordered, read < run < approve < admin; one holds all that stand before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from fnmatch import fnmatchcase

from mendloop.gateway.domain.refusals import Invalid, NotAllowed

PATTERN_FORM = r"^[A-Za-z0-9._*?-]{1,100}$"
MAX_PATTERNS = 50


class Scope(IntEnum):
    """What a credential allows."""

    READ = 1
    RUN = 2
    APPROVE = 3
    ADMIN = 4

    @property
    def word(self) -> str:
        """The name that people write."""
        return self.name.lower()

    @property
    def words(self) -> list[str]:
        """The names of all that it holds, lowest first."""
        return [scope.word for scope in Scope if scope <= self]

    @classmethod
    def of(cls, word: str) -> Scope:
        """The scope of a name. Raises Invalid."""
        try:
            return cls[word.strip().upper()]
        except KeyError:
            known = ", ".join(scope.word for scope in cls)
            raise Invalid(f"unknown scope {word[:40]!r}; known are {known}") from None


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Which runs a credential is for: those that it started, and those whose id matches a pattern (* and ?)."""

    own: bool = True
    patterns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.own and not self.patterns:
            raise Invalid("a credential limited to runs needs patterns, or own runs; else it sees nothing")
        if len(self.patterns) > MAX_PATTERNS:
            raise Invalid(f"{len(self.patterns)} run patterns; at most {MAX_PATTERNS}")
        for pattern in self.patterns:
            if not re.fullmatch(PATTERN_FORM, pattern) or pattern.endswith("\n"):
                raise Invalid(f"run pattern {pattern[:100]!r}: letters, digits, . _ - and the wildcards * and ? only")

    def allow(self, run_id: str, *, is_own: bool) -> bool:
        """Whether a run is one of them."""
        return (self.own and is_own) or any(fnmatchcase(run_id, pattern) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `who` is unique, for it decides which runs are their own: `ci (key 3f2a…)`, `ada (oidc)`; empty is the
    person at this machine, who may say a name with each request."""

    who: str
    scope: Scope
    limits: RunLimits | None = None
    credential: str = "local"
    """What was shown: local, key:ID or oidc. Rates are counted by it together with who."""
    expires_at: float | None = None
    """Unix time from which on the credential is worth nothing; None is never."""

    @property
    def is_local(self) -> bool:
        """Whether this is the person at the gateway's machine."""
        return self.credential == "local"

    @property
    def name(self) -> str:
        """How people call them."""
        return self.who or "local user"

    def acts_as(self, said: str) -> str:
        """The name that a decision is stored with; only the person at this machine may say one."""
        return said if self.is_local else self.who

    def may_see(self, run_id: str, *, started_by: str) -> bool:
        """Whether a run exists for them; started_by is empty where nobody is known."""
        if self.limits is None:
            return True
        return bool(run_id) and self.limits.allow(run_id, is_own=bool(self.who) and started_by == self.who)

    def check(self, needed: Scope) -> None:
        """Raises NotAllowed where the scope does not reach."""
        if self.scope < needed:
            raise NotAllowed(f"this needs the scope {needed.word}; {self.name} has {self.scope.word}")

    def check_start(self, run_id: str) -> None:
        """Raises NotAllowed where a run of this id would be none of theirs."""
        if self.limits is not None and not self.limits.allow(run_id, is_own=True):
            allowed = ", ".join(self.limits.patterns)
            raise NotAllowed(f"{self.name} may only start runs named {allowed}; this one would be {run_id[:100]}")


LOCAL = Principal("", Scope.ADMIN)
