"""Turns what somebody shows into a principal: the local token, an API key, an OIDC token, or a browser's session.

A token that was checked is believed for BELIEVED_S, so that most requests ask no database. A key that is revoked here
ends at once; one that is revoked elsewhere (`mend keys revoke`, another replica) within that time.
"""

from __future__ import annotations

import hmac
import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from mendloop.core.errors import Retryable
from mendloop.gateway.adapters.key_store import KeyStore
from mendloop.gateway.adapters.session_store import Session, SessionStore
from mendloop.gateway.domain import keys
from mendloop.gateway.domain.access import LOCAL, Principal
from mendloop.gateway.domain.refusals import NotSignedIn, Unknown

log = logging.getLogger(__name__)
BELIEVED_S = 5.0
MAX_BELIEVED = 10_000
MAX_TOKEN_LENGTH = 8192
_WORTHLESS = "the credential is worth nothing; ask an administrator, or sign in again"


class TokenReader(Protocol):
    """Reads bearer tokens that somebody else issued."""

    def principal(self, token: str) -> Principal:
        """Who it names. Raises NotSignedIn."""


class Authenticator(Protocol):
    """What the entrance asks. All but `believed` may wait for a database or the net."""

    def believed(self, token: str) -> Principal | None:
        """Who a token names, if it was checked lately. Asks nobody."""

    def bearer(self, token: str) -> Principal:
        """Who a token names. Raises NotSignedIn."""

    def session(self, cookie: str) -> Principal:
        """Who a cookie names. Raises NotSignedIn."""

    def sign_in(self, token: str) -> tuple[str, Session]:
        """The cookie of a new session. Raises NotSignedIn."""

    def sign_out(self, cookie: str) -> None:
        """End a session."""

    def forget(self) -> None:
        """Believe nothing that was checked before: a key was changed."""


class Credentials:
    """The Authenticator of a gateway. local_token "" accepts none; tokens without a reader are refused."""

    def __init__(
        self,
        key_store: KeyStore,
        sessions: SessionStore,
        *,
        clock: Callable[[], float],
        local_token: str = "",
        reader: TokenReader | None = None,
    ) -> None:
        self._keys, self._sessions, self._clock, self._reader = key_store, sessions, clock, reader
        self._local_digest = keys.digest(local_token) if local_token else ""
        self._believed: OrderedDict[str, tuple[Principal, float]] = OrderedDict()

    def believed(self, token: str) -> Principal | None:
        """Who a token names, if it was checked lately."""
        found = self._believed.get(keys.digest(token))
        return found[0] if found is not None and self._clock() < found[1] else None

    def bearer(self, token: str) -> Principal:
        """Who a token names. Raises NotSignedIn, and Retryable where the database is away."""
        if len(token) > MAX_TOKEN_LENGTH:
            raise NotSignedIn(_WORTHLESS)
        principal = self._principal(token)
        until = min(self._clock() + BELIEVED_S, principal.expires_at or float("inf"))
        self._believed[keys.digest(token)] = (principal, until)
        while len(self._believed) > MAX_BELIEVED:
            self._believed.popitem(last=False)
        return principal

    def session(self, cookie: str) -> Principal:
        """Who a cookie names: the credential behind it must still be worth something. Raises NotSignedIn, Retryable."""
        session = self._sessions.find(cookie)
        if session is None:
            raise NotSignedIn("the session is over; sign in again")
        kind, _, key_id = session.principal.credential.partition(":")
        if kind == "local" and not self._is_local(session.token_digest):
            raise NotSignedIn("the session's token was replaced; sign in with the new one")
        if kind == "key":
            try:
                return self._keys.get(key_id).principal(now=self._clock())
            except Unknown:
                raise NotSignedIn(_WORTHLESS) from None
        return session.principal

    def sign_in(self, token: str) -> tuple[str, Session]:
        """The cookie of a new session. Raises NotSignedIn, Retryable."""
        return self._sessions.open(self.bearer(token), token=token)

    def sign_out(self, cookie: str) -> None:
        """End a session."""
        self._sessions.close(cookie)

    def forget(self) -> None:
        """Believe nothing that was checked before."""
        self._believed.clear()

    def _principal(self, token: str) -> Principal:
        parts = keys.split_token(token)
        if parts is not None:
            return self._of_key(token, *parts)
        if self._reader is not None and token.count(".") == 2:
            return self._reader.principal(token)
        raise NotSignedIn(_WORTHLESS)

    def _of_key(self, token: str, key_id: str, secret: str) -> Principal:
        if key_id == keys.LOCAL_ID:
            if self._is_local(keys.digest(token)):
                return LOCAL
            raise NotSignedIn(_WORTHLESS)
        key = self._keys.shown(key_id, secret)
        if key is None:
            raise NotSignedIn(_WORTHLESS)
        principal = key.principal(now=self._clock())
        try:
            self._keys.note_use(key)
        except Retryable as error:  # the time of its last use is not worth a refusal
            log.warning("last use of a key was not noted", extra={"key_id": key_id, "reason": str(error)})
        return principal

    def _is_local(self, shown_digest: str) -> bool:
        return bool(self._local_digest) and hmac.compare_digest(shown_digest, self._local_digest)
