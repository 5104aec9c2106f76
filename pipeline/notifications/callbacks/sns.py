"""Whether a message comes from one of our topics of Amazon SNS, and what is in it.

A message names the certificate that it is signed with. That is fetched only from Amazon's own host of a
region, and only for a topic of ours. Source: AWS, "Verifying the signatures of Amazon SNS messages",
signature version 2.
"""

import asyncio
import re
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificate

from pipeline.clock import Clock
from pipeline.errors import CallbackError

TOLERANCE_S: Final = 26 * 3600.0  # how long a delivery may be repeated; what it says is acted on once
_HOST: Final = r"sns\.[a-z0-9-]{3,30}\.amazonaws\.com(?:\.cn)?"
_CERTIFICATE: Final = re.compile(rf"https://{_HOST}/SimpleNotificationService-[0-9a-f]{{32}}\.pem", re.ASCII)
_CONFIRMATION: Final = re.compile(rf"https://{_HOST}/\?[!-~]{{1,2000}}", re.ASCII)
_CERTIFICATES_MAX: Final = 16

Fetch = Callable[[str], Awaitable[bytes]]
"""Returns what is at a URL. Raises CallbackUnavailableError."""


class SnsMessage(msgspec.Struct, frozen=True, rename="pascal"):
    """A message. Its names are those of AWS; `subject` and the URLs are there or not by its type."""

    type: Literal["Notification", "SubscriptionConfirmation", "UnsubscribeConfirmation"]
    message_id: str
    topic_arn: str
    message: str
    timestamp: datetime
    signature_version: str
    signature: str
    signing_cert_url: str = msgspec.field(name="SigningCertURL")
    subject: str | None = None
    subscribe_url: str | None = msgspec.field(default=None, name="SubscribeURL")
    token: str | None = None


_SIGNED: Final = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        *("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}
_SIGNED["UnsubscribeConfirmation"] = _SIGNED["SubscriptionConfirmation"]
_decode = msgspec.json.Decoder(SnsMessage).decode
_decode_texts = msgspec.json.Decoder(dict[str, Any]).decode


class SnsTopics:
    """Takes messages of some topics, by their ARNs. Mutable state: `_keys`, by the URL of the certificate."""

    def __init__(self, topics: Sequence[str], fetch: Fetch, clock: Clock) -> None:
        self._topics = frozenset(topics)
        self._fetch = fetch
        self._clock = clock
        self._keys: OrderedDict[str, RSAPublicKey] = OrderedDict()
        self._fetching = asyncio.Lock()

    async def genuine(self, body: bytes) -> SnsMessage | None:
        """Return a message of a topic of ours, None for every other one.

        Raises CallbackError for what is no message, CallbackUnavailableError while Amazon cannot be asked.
        """
        try:
            message, texts = _decode(body), _decode_texts(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise CallbackError("the body is no message of SNS") from error
        if message.topic_arn not in self._topics or message.signature_version != "2":
            return None
        if message.timestamp.tzinfo is None or not _CERTIFICATE.fullmatch(message.signing_cert_url):
            return None
        if abs((self._clock.now() - message.timestamp).total_seconds()) > TOLERANCE_S:
            return None
        signed = "".join(f"{name}\n{texts[name]}\n" for name in _SIGNED[message.type] if name in texts)
        key = await self._key(message.signing_cert_url)
        return message if _is_signed(key, message.signature, signed.encode()) else None

    async def confirm(self, message: SnsMessage) -> None:
        """Confirm the subscription that a genuine message asks about. Raises as `genuine` does."""
        url = message.subscribe_url or ""
        if not _CONFIRMATION.fullmatch(url):
            raise CallbackError("SubscribeURL is not Amazon's")
        await self._fetch(url)

    async def _key(self, url: str) -> RSAPublicKey:
        if (known := self._keys.get(url)) is not None:
            return known
        async with self._fetching:  # one at a time: a flood of messages asks Amazon once
            if url not in self._keys:
                pem = await self._fetch(url)
                try:
                    key = load_pem_x509_certificate(pem).public_key()
                except ValueError as error:
                    raise CallbackError("SigningCertURL leads to no certificate") from error
                if not isinstance(key, RSAPublicKey):
                    raise CallbackError("the certificate has no RSA key")
                self._keys[url] = key
                if len(self._keys) > _CERTIFICATES_MAX:
                    self._keys.popitem(last=False)
            return self._keys[url]


def _is_signed(key: RSAPublicKey, signature: str, signed: bytes) -> bool:
    try:
        key.verify(b64decode(signature, validate=True), signed, PKCS1v15(), SHA256())
    except (InvalidSignature, ValueError):  # of base64 as well
        return False
    return True
