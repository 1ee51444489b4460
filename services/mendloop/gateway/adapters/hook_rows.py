"""Webhooks as SQL rows, and how their secrets are kept. Knows columns; knows no rule."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import Row

from mendloop.core.errors import Permanent
from mendloop.gateway.domain.hooks import Answer, Attempt, Hook, Progress, Secret, Wanted

if TYPE_CHECKING:
    from mendloop.gateway.adapters.secret_box import SecretBox

_SEALED = "fernet:"


class Sealing:
    """Writes secrets encrypted where keys are given, else plain: they must be read again to sign.

    The first key encrypts, all of them decrypt, so that keys can be changed; what was written plain stays readable.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._box: SecretBox | None = None
        if keys:
            from mendloop.gateway.adapters.secret_box import SecretBox  # see there

            self._box = SecretBox(keys)

    def seal(self, secrets: Sequence[Secret]) -> str:
        """The secrets as one text."""
        plain = json.dumps([[secret.text, secret.expires_at] for secret in secrets])
        return plain if self._box is None else _SEALED + self._box.encrypt(plain)

    def open(self, text: str) -> tuple[Secret, ...]:
        """The secrets of a text. Raises Permanent where no key fits."""
        if text.startswith(_SEALED):
            text = self._decrypted(text.removeprefix(_SEALED))
        return tuple(Secret(secret, expires_at) for secret, expires_at in json.loads(text))

    def _decrypted(self, token: str) -> str:
        if self._box is None:
            raise Permanent("webhook secrets are encrypted and MENDLOOP_WEBHOOK_KEYS is not set")
        return self._box.decrypt(token)


PROGRESS_FIELDS = tuple(Progress.__dataclass_fields__)


def hook_values(hook: Hook, *, sealing: Sealing) -> dict[str, Any]:
    """The columns of a hook, without its lease."""
    return {
        "hook_id": hook.hook_id,
        "url": hook.url,
        "description": hook.description,
        "format": hook.format,
        "wanted": asdict(hook.wanted),
        "secrets": sealing.seal(hook.secrets),
        "created_at": hook.created_at,
        "updated_at": hook.updated_at,
        "version": hook.version,
        "request_digest": hook.request_digest,
        **asdict(hook.progress),
    }


def hook_of(row: Row[Any], *, sealing: Sealing) -> Hook:
    """The hook of a row."""
    values = row._mapping
    wanted = {name: tuple(texts) for name, texts in values["wanted"].items()}
    return Hook(
        hook_id=values["hook_id"],
        url=values["url"],
        description=values["description"],
        format=values["format"],
        wanted=Wanted(**wanted),
        secrets=sealing.open(values["secrets"]),
        created_at=values["created_at"],
        updated_at=values["updated_at"],
        progress=Progress(**{name: values[name] for name in PROGRESS_FIELDS}),
        version=values["version"],
        request_digest=values["request_digest"],
    )


def attempt_values(attempt: Attempt) -> dict[str, Any]:
    """The columns of an attempt."""
    return {
        "hook_id": attempt.hook_id,
        "event_id": attempt.event_id,
        "event_type": attempt.event_type,
        "run_id": attempt.run_id,
        "at": attempt.at,
        "number": attempt.number,
        "result": attempt.result,
        "status": attempt.answer.status,
        "seconds": attempt.answer.seconds,
        "detail": attempt.answer.detail,
        "is_test": attempt.is_test,
    }


def attempt_of(row: Row[Any]) -> Attempt:
    """The attempt of a row."""
    return Attempt(
        row.hook_id,
        row.event_id,
        row.event_type,
        row.run_id,
        row.at,
        row.number,
        row.result,
        Answer(row.status, row.seconds, row.detail),
        row.is_test,
    )
