"""Signatures of webhooks that we define ourselves, by the Standard Webhooks scheme (standardwebhooks.com).

Headers `webhook-id`, `webhook-timestamp` (UNIX seconds) and `webhook-signature`: `v1,` and the base64 of
HMAC-SHA256 over `id.timestamp.body`, several separated by spaces. A secret is `whsec_` and base64, or a text.
"""

import hmac
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Sequence
from typing import Final

from pipeline.clock import Clock

TOLERANCE_S: Final = 300.0
_ID_CHARS_MAX: Final = 128
_SIGNATURES_MAX: Final = 8
_PREFIX: Final = "whsec_"


class WebhookSignatures:
    """Checks signatures with each of the secrets, several while one is being changed. With none, all fail."""

    def __init__(self, secrets: Sequence[str], clock: Clock) -> None:
        self._keys = [_key(secret) for secret in secrets if secret]
        self._clock = clock

    def is_genuine(self, *, webhook_id: str, timestamp: str, signature: str, body: bytes) -> bool:
        """Tell whether a request was signed with a secret of ours, at most five minutes ago or ahead."""
        if not (1 <= len(webhook_id) <= _ID_CHARS_MAX and webhook_id.isascii()):
            return False
        if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):  # noqa: PLR2004
            return False
        if abs(self._clock.now().timestamp() - int(timestamp)) > TOLERANCE_S:
            return False
        signed = f"{webhook_id}.{timestamp}.".encode() + body
        given = [
            part.removeprefix("v1,").encode()
            for part in signature.split(" ")[:_SIGNATURES_MAX]
            if part.startswith("v1,")
        ]
        right = [b64encode(hmac.digest(key, signed, "sha256")) for key in self._keys]
        return any(hmac.compare_digest(one, other) for one in right for other in given)


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        return secret.encode()
    try:
        return b64decode(secret.removeprefix(_PREFIX), validate=True)
    except Base64Error:
        return secret.encode()
