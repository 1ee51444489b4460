"""Which request needs which scope. What no rule names needs admin, so that a route without a rule stays shut.

Paths are templates: `*` stands for one segment, a last `**` for any rest. The first rule that fits decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from mendloop.gateway.domain.access import Scope

READS = ("GET", "HEAD")
ANY: tuple[str, ...] = ()


class Sight(Enum):
    """What a credential that is limited to some runs may do with a request."""

    NONE = "none"
    """Refused: the answer may hold other runs."""
    RUN = "run"
    """Allowed where the run in the path is one of theirs; else the run does not exist."""
    FILTERED = "filtered"
    """Allowed: the answer holds their runs only, or no run at all."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Requests, and the scope that they need; None is open to everybody."""

    methods: tuple[str, ...]
    path: str
    scope: Scope | None
    sight: Sight = Sight.NONE
    _form: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = [
            "(?:/.*)?" if part == "**" else "/([^/]+)" if part == "*" else f"/{re.escape(part)}"
            for part in self.path.strip("/").split("/")
        ]
        object.__setattr__(self, "_form", re.compile("".join(parts)))

    def fits(self, method: str, path: str) -> bool:
        """Whether the rule is for a request."""
        return (not self.methods or method in self.methods) and self._form.fullmatch(path) is not None

    def run_in(self, path: str) -> str:
        """The run id in a path of Sight.RUN."""
        found = self._form.fullmatch(path)
        assert found is not None
        return found.group(1)


OPEN_RULES = (
    Rule(READS, "/healthz", None),
    Rule(READS, "/readyz", None),
    Rule(READS, "/metrics", None),
    Rule(("POST",), "/v1/session", None),  # signs in
    # The page: the same shell for each of its paths, which holds no data.
    Rule(READS, "/", None),
    Rule(READS, "/runs/*/**", None),
    Rule(READS, "/dead-letters", None),
    Rule(READS, "/subscriptions", None),
    Rule(READS, "/keys", None),
    Rule(READS, "/assets/**", None),
    Rule(READS, "/favicon.ico", None),
)
RULES = (
    *OPEN_RULES,
    Rule((*READS, "DELETE"), "/v1/session", Scope.READ, Sight.FILTERED),
    Rule(READS, "/v1/me", Scope.READ, Sight.FILTERED),
    Rule(ANY, "/v1/keys/**", Scope.ADMIN),
    Rule(ANY, "/v1/audit/**", Scope.ADMIN),
    Rule(ANY, "/v1/webhooks/**", Scope.ADMIN),
    Rule(ANY, "/v1/subscriptions/**", Scope.ADMIN),
    Rule(("POST",), "/v1/runs", Scope.RUN, Sight.FILTERED),
    Rule(("POST",), "/v1/runs/*/cancel", Scope.RUN, Sight.RUN),
    Rule(("POST",), "/v1/runs/*/pause", Scope.RUN, Sight.RUN),
    Rule(("POST",), "/v1/runs/*/resume", Scope.RUN, Sight.RUN),
    Rule(("POST",), "/v1/runs/*/rollback", Scope.APPROVE, Sight.RUN),
    Rule(("POST",), "/v1/runs/*/approval", Scope.APPROVE, Sight.RUN),
    Rule(("POST",), "/v1/runs/*/review", Scope.APPROVE, Sight.RUN),
    Rule(("POST",), "/v1/dead-letters/**", Scope.APPROVE),
    Rule(READS, "/v1/runs", Scope.READ, Sight.FILTERED),
    Rule(READS, "/v1/runs/*/**", Scope.READ, Sight.RUN),
    Rule(READS, "/v1/events", Scope.READ, Sight.FILTERED),
    Rule(READS, "/v1/recipe.schema.json", Scope.READ, Sight.FILTERED),
    Rule(READS, "/openapi.json", Scope.READ, Sight.FILTERED),
    Rule(READS, "/v1/**", Scope.READ),
)
SHUT = Rule(ANY, "/**", Scope.ADMIN)


def rule_for(method: str, path: str, *, rules: Iterable[Rule] = RULES) -> Rule:
    """The rule of a request; SHUT where none fits."""
    return next((rule for rule in rules if rule.fits(method, path)), SHUT)
