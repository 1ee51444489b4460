"""What people may ask of webhooks, checked before anything is written: a creation with its key, and a URL's place."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

from mendloop.core.events import stable_hash
from mendloop.gateway.domain.hooks import Format, Wanted
from mendloop.gateway.domain.refusals import Fault, Invalid, check_key

MAX_URL_LENGTH = 2_000


@dataclass(frozen=True, slots=True)
class Creation:
    """A request for a hook. With a key of who asks it has the same id each time, so that two replicas make one hook."""

    url: str
    description: str
    format: Format
    wanted: Wanted
    key: str = ""
    who: str = ""
    fresh: str = field(default_factory=lambda: secrets.token_hex(12))

    def __post_init__(self) -> None:
        check_key(self.key)

    @property
    def hook_id(self) -> str:
        """The id of the hook."""
        return f"wh_{stable_hash('webhook', self.key, self.who)[:24] if self.key else self.fresh}"

    @property
    def digest(self) -> str:
        """What was asked for; empty without a key."""
        wanted = json.dumps(asdict(self.wanted))
        return stable_hash(self.url, self.description, self.format, wanted) if self.key else ""


def place_of(url: str, *, allows_http: bool) -> tuple[str, int]:
    """Host and port of a URL. Raises Invalid."""
    schemes = ("https", "http") if allows_http else ("https",)
    if len(url) > MAX_URL_LENGTH or not url.isascii() or not url.isprintable() or " " in url:
        raise wrong_url(f"the URL must have at most {MAX_URL_LENGTH} ASCII characters and no space")
    try:
        parsed = urlsplit(url)
        host, port = parsed.hostname, parsed.port
    except ValueError as error:
        raise wrong_url(f"the URL cannot be read: {error}") from error
    if parsed.scheme not in schemes:
        raise wrong_url(f"the URL must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if not host or port == 0:
        raise wrong_url("the URL names no host, or port 0")
    if parsed.username is not None or parsed.password is not None or "#" in url or "\\" in url:
        raise wrong_url("the URL must have no user name, password, fragment or backslash")
    return host, port or {"https": 443, "http": 80}[parsed.scheme]


def wrong_url(message: str) -> Invalid:
    """The refusal of a URL."""
    return Invalid(message, faults=(Fault("url", message),))
