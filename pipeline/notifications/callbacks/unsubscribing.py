"""Tokens that let whoever holds one take an address off all mails. They hold a key, never the address."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from pipeline.notifications.callbacks.tokens import TokenSigner

_PAD: Final = b"\x01"  # a version, and the byte that makes the token end without padding


class UnsubscribeTokens:
    """Makes and opens tokens. The first secret makes them; `secrets` after it are still accepted.

    They do not end: a mail may be read years later, and its link must still work (CAN-SPAM asks for 30 days).
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._signer = TokenSigner("postorder unsubscribe", secrets, payload_bytes=17)

    def token(self, recipient_key: UUID) -> str:
        """Return 44 characters that are safe in a URL."""
        return self._signer.sign(_PAD + recipient_key.bytes)

    def open(self, token: str) -> UUID | None:
        """Return the recipient's key, or None if the token is not one of ours."""
        payload = self._signer.open(token)
        if payload is None or payload[:1] != _PAD:
            return None
        return UUID(bytes=payload[1:])
