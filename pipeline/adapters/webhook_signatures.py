"""Whether a webhook is its vendor's: a keyed hash of the body as it came, byte for byte.

Each vendor signs in a way of its own. Comparisons take as long for a wrong signature as for a right one.
Several secrets count at once while one is being changed.
"""

import hmac
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from pipeline.clock import Clock

SHOPIFY_HEADER: Final = "x-shopify-hmac-sha256"
STRIPE_HEADER: Final = "stripe-signature"
SQUARE_HEADER: Final = "x-square-hmacsha256-signature"

STRIPE_TOLERANCE_S: Final = 300
_HEADER_CHARS_MAX: Final = 4096
_SIGNATURES_MAX: Final = 8
_TIMESTAMP_CHARS_MAX: Final = 12


class WebhookSignature(Protocol):
    """How one vendor signs. Without a secret nothing is genuine."""

    header: str

    def is_genuine(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Tell whether a request is the vendor's. `headers`: by their names in small letters."""


class ShopifySignature:
    """Base64 of HMAC-SHA256 over the body, with the app's client secret. It says nothing of time.

    https://shopify.dev/docs/apps/build/webhooks/subscribe/https
    """

    header = SHOPIFY_HEADER

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [secret.encode() for secret in secrets if secret]

    def is_genuine(self, headers: Mapping[str, str], body: bytes) -> bool:
        """See WebhookSignature."""
        return _is_one_of(_base64_hashes(self._keys, body), [headers.get(self.header, "")])


class SquareSignature:
    """Base64 of HMAC-SHA256 over the subscription's URL and the body, with the subscription's signature key.

    `url`: as it was given to Square, to the letter. https://developer.squareup.com/docs/webhooks/step3validate
    """

    header = SQUARE_HEADER

    def __init__(self, secrets: Sequence[str], url: str) -> None:
        self._keys = [secret.encode() for secret in secrets if secret]
        self._url = url.encode()

    def is_genuine(self, headers: Mapping[str, str], body: bytes) -> bool:
        """See WebhookSignature."""
        return _is_one_of(_base64_hashes(self._keys, self._url + body), [headers.get(self.header, "")])


class StripeSignature:
    """`t=SECONDS,v1=HEX[,v1=HEX]`: HMAC-SHA256 over seconds, a full stop and the body; good for five minutes.

    Stripe itself sends one `v1` for each secret while one is being rolled. Other schemes (`v0`) do not count.
    https://docs.stripe.com/webhooks#verify-manually
    """

    header = STRIPE_HEADER

    def __init__(self, secrets: Sequence[str], clock: Clock) -> None:
        self._keys = [secret.encode() for secret in secrets if secret]
        self._clock = clock

    def is_genuine(self, headers: Mapping[str, str], body: bytes) -> bool:
        """See WebhookSignature."""
        text = headers.get(self.header, "")
        if len(text) > _HEADER_CHARS_MAX:
            return False
        pairs = [(name.strip(), value.strip()) for name, _, value in map(_split, text.split(","))]
        times = [value for name, value in pairs if name == "t"]
        if len(times) != 1 or not self._is_recent(times[0]):
            return False
        given = [value for name, value in pairs if name == "v1"][:_SIGNATURES_MAX]
        signed = f"{times[0]}.".encode() + body
        return _is_one_of([hmac.digest(key, signed, "sha256").hex() for key in self._keys], given)

    def _is_recent(self, seconds: str) -> bool:
        if not (seconds.isascii() and seconds.isdecimal() and len(seconds) <= _TIMESTAMP_CHARS_MAX):
            return False
        return abs(self._clock.now().timestamp() - int(seconds)) <= STRIPE_TOLERANCE_S


def _split(part: str) -> tuple[str, str, str]:
    return part.partition("=")


def _base64_hashes(keys: Sequence[bytes], signed: bytes) -> list[str]:
    return [b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys]


def _is_one_of(right: Sequence[str], given: Sequence[str]) -> bool:
    """Compare every one with every one, so that how long it takes says nothing."""
    found = False
    for one in right:
        for other in given:
            found |= hmac.compare_digest(one.encode(), other.encode("utf-8", "replace"))
    return found
