"""The one entrance of REST and gRPC: who asks, whether too often, what for, and a line in the audit log.

Lives in one event loop; checks that wait for a database or the net run in threads.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from anyio import to_thread

from mendloop.core.errors import Retryable
from mendloop.gateway.adapters.audit_store import Deed
from mendloop.gateway.adapters.credentials import Authenticator
from mendloop.gateway.domain.access import Principal
from mendloop.gateway.domain.access_rules import Rule, Sight
from mendloop.gateway.domain.rates import Allowance, Buckets, Rate
from mendloop.gateway.domain.refusals import Busy, NotAllowed, NotSignedIn, TooMany, UnknownRun

log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rates:
    """How much one credential and one address may ask, and how many worthless credentials an address may show."""

    credential: Rate
    address: Rate
    failure: Rate


DEFAULT_RATES = Rates(Rate(100, burst=500), Rate(200, burst=1000), Rate(1 / 6, burst=10))


class Entrance:
    """Admits requests. started_by gives who started a run, or "" for an unknown one."""

    def __init__(
        self,
        authenticator: Authenticator,
        *,
        record: Callable[[Deed], None],
        started_by: Callable[[str], str],
        rates: Rates = DEFAULT_RATES,
    ) -> None:
        self.authenticator, self._record, self._started_by = authenticator, record, started_by
        self._addresses, self._credentials = Buckets(rates.address), Buckets(rates.credential)
        self._failures = Buckets(rates.failure)

    def count_address(self, address: str) -> None:
        """One request from an address. Raises TooMany."""
        _pass(self._addresses.take(address, now=time.monotonic()), "this address asks too often")

    def count(self, principal: Principal) -> Allowance:
        """One request with a credential. Raises TooMany."""
        name = f"{principal.credential} {principal.who}"
        return _pass(self._credentials.take(name, now=time.monotonic()), f"{principal.name} asks too often")

    @property
    def rate(self) -> Rate:
        """What one credential may ask."""
        return self._credentials.rate

    def check_failures(self, address: str) -> None:
        """Raises TooMany where an address showed too many worthless credentials; asked before a sign-in."""
        allowance = self._failures.look(address, now=time.monotonic())
        _pass(allowance, "too many credentials from this address were worth nothing")

    async def bearer(self, token: str, *, address: str) -> Principal:
        """Who shows a token. Raises NotSignedIn, TooMany where too many were worth nothing, Busy."""
        known = self.authenticator.believed(token)
        if known is not None:
            return known
        return await self.checked(lambda: self.authenticator.bearer(token), address=address)

    async def session(self, cookie: str, *, address: str) -> Principal:
        """Who shows a cookie. Raises NotSignedIn, TooMany, Busy."""
        return await self.checked(lambda: self.authenticator.session(cookie), address=address)

    async def checked(self, check: Callable[[], T], *, address: str) -> T:
        """What a check in a thread answers; one that finds a worthless credential is counted for its address."""
        try:
            return await to_thread.run_sync(check)
        except NotSignedIn:
            allowance = self._failures.take(address, now=time.monotonic())
            _pass(allowance, "too many credentials from this address were worth nothing")
            raise
        except Retryable as error:
            log.warning("a credential could not be checked", extra={"reason": str(error)})
            raise Busy("what checks credentials does not answer; try again in some seconds") from error

    async def check(self, principal: Principal, rule: Rule, *, path: str) -> None:
        """Raises NotAllowed, or UnknownRun where the path names a run that does not exist for them."""
        assert rule.scope is not None
        principal.check(rule.scope)
        if principal.limits is None or rule.sight is Sight.FILTERED:
            return
        if rule.sight is Sight.NONE:
            raise NotAllowed(f"{principal.name} is limited to some runs, and this is not about one run")
        run_id = rule.run_in(path)
        if not await to_thread.run_sync(lambda: principal.may_see(run_id, started_by=self._started_by(run_id))):
            raise UnknownRun.named(run_id)

    async def record(self, deed: Deed) -> bool:
        """Write a deed down; False, and an error in the service's log with all of it, where that was not possible."""
        try:
            await to_thread.run_sync(self._record, deed)
        except Retryable as error:
            log.error("a deed is not in the audit log", extra={"deed": str(deed), "reason": str(error)})
            return False
        return True


StillValid = Callable[[], Awaitable[bool]]


def _pass(allowance: Allowance, words: str) -> Allowance:
    if not allowance.is_allowed:
        raise TooMany(f"{words}; wait {allowance.wait_s:.1f} s", wait_s=allowance.wait_s)
    return allowance
