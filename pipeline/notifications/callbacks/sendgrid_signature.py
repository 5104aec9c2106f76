"""Whether events come from SendGrid: ECDSA (P-256, SHA-256) over the timestamp and the body, as they came.

Source: SendGrid's "Signed Event Webhook"; its example is among the tests.
"""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from pipeline.clock import Clock
from pipeline.errors import SettingsError

TOLERANCE_S: Final = 26 * 3600.0  # events are repeated for a day; what they say is acted on once
_SIGNATURE_CHARS_MAX: Final = 200
_TIMESTAMP_CHARS_MAX: Final = 12


class SendGridSignatures:
    """Checks signatures with each of the keys, several while one is being changed. With none, all fail.

    `keys`: as SendGrid shows them, base64 of the DER. Raises SettingsError for what is no such key.
    """

    def __init__(self, keys: Sequence[str], clock: Clock) -> None:
        self._keys = [_public_key(key) for key in keys]
        self._clock = clock

    def is_genuine(self, *, timestamp: str, signature: str, body: bytes) -> bool:
        """Tell whether a request was signed by SendGrid, at most 26 hours ago or ahead."""
        if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= _TIMESTAMP_CHARS_MAX):
            return False
        if abs(self._clock.now().timestamp() - int(timestamp)) > TOLERANCE_S:
            return False
        try:
            given = b64decode(signature[:_SIGNATURE_CHARS_MAX], validate=True)
        except (Base64Error, ValueError):
            return False
        return any(_is_signed(key, given, timestamp.encode() + body) for key in self._keys)


def _is_signed(key: EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    try:
        key.verify(signature, signed, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def _public_key(text: str) -> EllipticCurvePublicKey:
    try:
        key = load_der_public_key(b64decode(text, validate=True))
    except ValueError:  # of base64 as well
        key = None
    if not isinstance(key, EllipticCurvePublicKey):
        raise SettingsError(["public.sendgrid_keys: not a verification key as SendGrid shows it"])
    return key
