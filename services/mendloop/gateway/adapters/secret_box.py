"""Encrypts webhook secrets with Fernet. Imported only where keys are given: cryptography takes 10 MB."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from mendloop.core.errors import InvalidRecipe, Permanent


class SecretBox:
    """The first key encrypts, all of them decrypt, so that keys can be changed."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._box = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise InvalidRecipe(
                "MENDLOOP_WEBHOOK_KEYS holds what is no Fernet key: 32 bytes in URL-safe base64, as"
                " `python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'` makes"
            ) from None

    def encrypt(self, text: str) -> str:
        """The text as a token."""
        return self._box.encrypt(text.encode()).decode()

    def decrypt(self, token: str) -> str:
        """The text of a token. Raises Permanent where no key fits."""
        try:
            return self._box.decrypt(token.encode()).decode()
        except InvalidToken:
            raise Permanent("no key of MENDLOOP_WEBHOOK_KEYS opens the webhook secrets; add the one before") from None
