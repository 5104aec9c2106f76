"""What a provider is to the pipeline. The conformance tests run against each."""

from datetime import datetime
from typing import Protocol

import msgspec

from pipeline.notifications.notification import Email, Sms


class Accepted(msgspec.Struct, frozen=True):
    """The provider took responsibility for a message, under its own id."""

    provider: str
    provider_id: str


class Found(msgspec.Struct, frozen=True):
    """The provider has the message. `status`: its own word for where it stands."""

    provider: str
    provider_id: str
    status: str | None = None


class NotFound(msgspec.Struct, frozen=True):
    """The provider was asked, and does not have the message: it was not accepted."""


class CannotTell(msgspec.Struct, frozen=True):
    """The provider cannot be asked, did not answer, or has something that may be it. `why`: a code."""

    why: str
    is_final: bool
    """Whether asking again is of no use."""


Evidence = Found | NotFound | CannotTell


class SmsProvider(Protocol):
    """Sends SMS.

    Raises RecipientRefusedError, RejectedError, ThrottledError, LeaseEndedError (each: definitely not
    accepted) or OutcomeUnknownError; nothing else. Looks at `send_before` in the same step in which the
    request is written, so that no pause can come between.
    """

    name: str

    async def send(self, message: Sms) -> Accepted:
        """Send one message."""

    async def find(self, message: Sms, since: datetime) -> Evidence:
        """Ask whether a message, tried at `since` or later, was accepted. Raises no ProviderError."""

    async def close(self) -> None:
        """Close every connection."""


class EmailProvider(Protocol):
    """Sends e-mail. Raises as SmsProvider does, and DocumentError: too large, but not without it."""

    name: str

    async def send(self, message: Email) -> Accepted:
        """Send one message."""

    async def find(self, message: Email, since: datetime) -> Evidence:
        """As SmsProvider: SMTP has no way to ask, so CannotTell unless a bounce or the like is known."""

    async def close(self) -> None:
        """Close every connection."""
