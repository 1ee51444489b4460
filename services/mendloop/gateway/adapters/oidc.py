"""OIDC bearer tokens: checked against the issuer's published keys, and read as a principal.

Keys are fetched when they are first needed, again after KEEP_S, and for an unknown key id at most once in REFETCH_S, so
that a new signing key is taken within seconds and strangers cannot make us hammer the issuer. While the issuer is away
the keys of before go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx
import jwt

from mendloop.core.errors import Retryable
from mendloop.gateway.domain.access import Principal, RunLimits, Scope
from mendloop.gateway.domain.refusals import Invalid, NotSignedIn

log = logging.getLogger(__name__)
KEEP_S = 600.0
REFETCH_S = 10.0
TIMEOUT_S = 5.0
MAX_BYTES = 256 * 1024
OWN_RUNS = "@own"
"""Among patterns: the runs that one started. No pattern can be named so."""
LEEWAY_S = 30.0
"""How far clocks may differ."""
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures with a public key. `none` and the HMAC family are not among them, whatever a setting says."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Whose tokens are read, and what their claims mean. Names of claims may be dotted: realm_access.roles."""

    issuer: str
    audience: str
    jwks_url: str
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    scope_claim: str = "scope"
    scopes: Mapping[str, Scope] = field(default_factory=lambda: {f"mendloop:{scope.word}": scope for scope in Scope})
    """The scope of a claim's value; the highest counts. A token without any is refused."""
    name_claim: str = "sub"
    runs_claim: str = ""
    """The claim that limits callers to runs; empty: they see all. Admins, who make keys, are never limited."""
    runs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The run patterns of a claim's value; empty: the values are patterns themselves. OWN_RUNS is one's own runs."""

    def __post_init__(self) -> None:
        wrong = sorted(set(self.algorithms) - set(ALGORITHMS))
        if wrong or not self.algorithms:
            raise ValueError(f"OIDC algorithms {wrong or 'none'}: choose among {', '.join(ALGORITHMS)}")
        if self.runs and not self.runs_claim:
            raise ValueError("OIDC runs are mapped and no claim is named that holds them; set MENDLOOP_OIDC_RUNS_CLAIM")
        for value, patterns in self.runs.items():
            try:
                _limits_of(patterns)
            except Invalid as error:
                raise ValueError(f"MENDLOOP_OIDC_RUNS[{value!r}]: {error}") from error


class IssuerKeys:
    """An issuer's public keys by id, as its JWKS document says. Safe to use from several threads."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url, self._clock = url, clock
        self._lock = threading.Lock()
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")

    def find(self, key_id: str) -> jwt.PyJWK:
        """The key of an id. Raises NotSignedIn for an unknown one, Retryable where no keys could be fetched yet."""
        with self._lock:
            now = self._clock()
            is_due = key_id not in self._keys or now - self._fetched_at > KEEP_S
            if is_due and now - self._tried_at >= REFETCH_S:
                self._fetch(now)
            if not self._keys:
                raise Retryable(f"the keys of {self._url} cannot be fetched")
            if key_id not in self._keys:
                raise NotSignedIn("the token is signed with a key that its issuer does not publish")
            return self._keys[key_id]

    def _fetch(self, now: float) -> None:
        self._tried_at = now
        try:
            answer = httpx.get(self._url, timeout=TIMEOUT_S)
            answer.raise_for_status()
            if len(answer.content) > MAX_BYTES:
                raise ValueError(f"{len(answer.content)} bytes; at most {MAX_BYTES} are read")
            found = jwt.PyJWKSet.from_dict(answer.json())
        except (httpx.HTTPError, ValueError, jwt.PyJWTError, AttributeError) as error:
            log.warning("keys of an issuer cannot be fetched", extra={"url": self._url, "reason": str(error)})
            return
        self._keys = {key.key_id: key for key in found.keys if key.key_id}
        self._fetched_at = now


class OidcReader:
    """Reads tokens of one issuer: a TokenReader."""

    def __init__(self, issuer: Issuer, *, keys: IssuerKeys | None = None) -> None:
        self._issuer = issuer
        self._keys = keys or IssuerKeys(issuer.jwks_url)

    def principal(self, token: str) -> Principal:
        """Who a token names. Raises NotSignedIn where it is forged, expired, of another issuer or for somebody else, or
        holds none of our scopes; Retryable where the issuer's keys cannot be had."""
        claims = self._claims(token)
        name = _at(claims, self._issuer.name_claim)
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise NotSignedIn(f"the token has no usable claim {self._issuer.name_claim!r}, which names who asks")
        scope = self._scope(_at(claims, self._issuer.scope_claim))
        limits = None if scope is Scope.ADMIN or not self._issuer.runs_claim else self._limits(claims)
        return Principal(f"{name[:200]} (oidc)", scope, limits, "oidc", float(claims["exp"]))  # type: ignore[arg-type]

    def _claims(self, token: str) -> dict[str, object]:
        wanted = self._issuer
        try:
            header = jwt.get_unverified_header(token)
            if header.get("alg") not in wanted.algorithms:
                raise NotSignedIn(f"the token's algorithm is not one of {', '.join(wanted.algorithms)}")
            return jwt.decode(
                token,
                self._keys.find(str(header.get("kid", ""))),
                algorithms=list(wanted.algorithms),
                audience=wanted.audience,
                issuer=wanted.issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud"]},
            )
        except jwt.ExpiredSignatureError:
            raise NotSignedIn("the token is expired; get a new one") from None
        except jwt.PyJWTError as error:
            raise NotSignedIn(f"the token cannot be accepted: {error}") from None

    def _scope(self, value: object) -> Scope:
        words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
        held = [self._issuer.scopes[word] for word in words if isinstance(word, str) and word in self._issuer.scopes]
        if not held:
            known = ", ".join(self._issuer.scopes)
            raise NotSignedIn(f"the token's claim {self._issuer.scope_claim!r} holds none of {known}")
        return max(held)

    def _limits(self, claims: Mapping[str, object]) -> RunLimits:
        """Which runs the token is for. One whose claim is missing or malformed is for none, and refused."""
        name, mapped = self._issuer.runs_claim, self._issuer.runs
        value = _at(claims, name)
        words = value.split() if isinstance(value, str) else value
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise NotSignedIn(f"the token's claim {name!r} is missing or no text or list of texts; it limits to runs")
        patterns = [one for word in words for one in mapped.get(word, ())] if mapped else words
        try:
            return _limits_of(patterns)
        except Invalid as error:
            raise NotSignedIn(f"the token's claim {name!r} names no runs: {error}") from None


def _limits_of(patterns: Sequence[str]) -> RunLimits:
    """The limits of patterns. Raises Invalid where one is malformed, or there is none."""
    return RunLimits(OWN_RUNS in patterns, tuple(dict.fromkeys(one for one in patterns if one != OWN_RUNS)))


def _at(claims: Mapping[str, object], name: str) -> object:
    """A claim by its name, or by a dotted path where no claim is named so."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
