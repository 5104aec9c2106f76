"""Signed tokens in URLs that we hand out: a few bytes, and a proof that they are ours."""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from typing import Final

_MAC_BYTES: Final = 16


class TokenSigner:
    """Signs payloads of one fixed size for one purpose, with the first secret; accepts each of them.

    The text is base64url without padding: payload and MAC together must be a multiple of three bytes. Keys
    are derived for each purpose, so that a token of one kind is none of another. Copying a keyed HMAC takes
    half the time of keying one.
    """

    def __init__(self, purpose: str, secrets: Sequence[str], *, payload_bytes: int) -> None:
        assert (payload_bytes + _MAC_BYTES) % 3 == 0
        keys = [hmac.digest(secret.encode(), purpose.encode(), "sha256") for secret in secrets if secret]
        self._macs = [hmac.new(key, digestmod=hashlib.sha256) for key in keys]
        self._payload_bytes = payload_bytes
        self._chars = (payload_bytes + _MAC_BYTES) // 3 * 4

    def sign(self, payload: bytes) -> str:
        """Return a payload as a signed token. Takes about 3 µs."""
        return urlsafe_b64encode(payload + self._mac(self._macs[0], payload)).decode()

    def open(self, token: str) -> bytes | None:
        """Return the payload of a token, or None if it is not one of ours."""
        if len(token) != self._chars or not token.isascii():
            return None
        try:
            signed = urlsafe_b64decode(token)
        except (Base64Error, ValueError):
            return None
        # The decoder skips what is not in its alphabet; such a token is none.
        if len(signed) != self._payload_bytes + _MAC_BYTES or urlsafe_b64encode(signed).decode() != token:
            return None
        payload, mac = signed[: self._payload_bytes], signed[self._payload_bytes :]
        genuine = [hmac.compare_digest(self._mac(keyed, payload), mac) for keyed in self._macs]
        return payload if any(genuine) else None

    @staticmethod
    def _mac(keyed: hmac.HMAC, payload: bytes) -> bytes:
        mac = keyed.copy()
        mac.update(payload)
        return mac.digest()[:_MAC_BYTES]
