"""What a provider is to the pipeline. The conformance tests run against each."""

from typing import Protocol

import msgspec

from pipeline.notifications.notification import Email, Sms


class Accepted(msgspec.Struct, frozen=True):
    """The provider took responsibility for a message, under its own id."""

    provider: str
    provider_id: str


class SmsProvider(Protocol):
    """Sends SMS.

    Raises RecipientRefusedError, RejectedError, ThrottledError (each: definitely not accepted) or
    OutcomeUnknownError; nothing else.
    """

    async def send(self, message: Sms) -> Accepted:
        """Send one message."""

    async def close(self) -> None:
        """Close every connection."""


class EmailProvider(Protocol):
    """Sends e-mail. Raises as SmsProvider does."""

    async def send(self, message: Email) -> Accepted:
        """Send one message."""

    async def close(self) -> None:
        """Close every connection."""
