"""E-mail by SMTP through aiosmtplib, over connections that are kept open."""

import asyncio
from collections import deque

import aiosmtplib
from aiosmtplib.errors import SMTPException, SMTPResponseException

from pipeline.clock import Clock
from pipeline.errors import (
    OutcomeUnknownError,
    ProviderError,
    RecipientRefusedError,
    RejectedError,
    ThrottledError,
)
from pipeline.notifications.mail.mime import MailWriter
from pipeline.notifications.notification import Email
from pipeline.notifications.provider import Accepted
from pipeline.settings import EmailSettings

_PERMANENT = 500
_TEMPORARY = 400
_MAILBOX_CODES = (550, 551, 553)  # RFC 5321 4.2.3: unavailable, not local, name not allowed


class _Connection:
    """An SMTP session and how many mails it has carried."""

    def __init__(self, settings: EmailSettings) -> None:
        self.client = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            timeout=settings.timeout_s,
            use_tls=settings.tls == "implicit",
            # Never opportunistic: "starttls" fails when the server does not offer it.
            start_tls=settings.tls == "starttls",
            username=settings.username or None,
            password=settings.password or None,
        )
        self.mails = 0


class SmtpProvider:
    """Sends mail through one relay."""

    name = "smtp"

    def __init__(self, settings: EmailSettings, *, sender_name: str, clock: Clock) -> None:
        self._settings = settings
        self._writer = MailWriter(sender=settings.from_address, sender_name=sender_name)
        self._clock = clock
        self._idle: deque[_Connection] = deque()

    def __repr__(self) -> str:
        return f"SmtpProvider({self._settings.host}:{self._settings.port}, {len(self._idle)} idle)"

    async def send(self, message: Email) -> Accepted:
        """Send one mail. See SmsProvider for the errors."""
        message_id = self._writer.message_id(message)
        content = self._writer.write(message, self._clock.now())
        connection = await self._connect()
        try:
            await self._submit(connection.client, message.to, content)
        except ProviderError as error:
            # After a plain refusal the session is fine; after anything else it may be out of step.
            if isinstance(error, OutcomeUnknownError) or not await self._reset(connection):
                connection.client.close()
            else:
                self._keep(connection)
            raise
        except asyncio.CancelledError:
            connection.client.close()
            raise
        connection.mails += 1
        self._keep(connection)
        return Accepted(self.name, message_id)

    async def close(self) -> None:
        """Close every idle connection politely."""
        while self._idle:
            connection = self._idle.pop()
            try:
                await connection.client.quit()
            except (SMTPException, OSError):
                connection.client.close()

    async def _connect(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.client.is_connected:
                return connection
        connection = _Connection(self._settings)
        try:
            await connection.client.connect()
        except (SMTPException, OSError) as error:
            connection.client.close()
            raise ThrottledError(
                "unreachable", f"no session with the relay: {type(error).__name__}"
            ) from error
        return connection

    def _keep(self, connection: _Connection) -> None:
        if connection.client.is_connected and connection.mails < self._settings.mails_per_connection:
            self._idle.append(connection)
        else:
            connection.client.close()

    @staticmethod
    async def _reset(connection: _Connection) -> bool:
        try:
            await connection.client.rset()
        except (SMTPException, OSError):
            return False
        return True

    async def _submit(self, client: aiosmtplib.SMTP, to: str, content: bytes) -> None:
        """Hand over one mail. Up to DATA nothing was accepted; from then on a lost reply is unknown."""
        try:
            await client.mail(self._settings.from_address)
            await client.rcpt(to)
        except SMTPResponseException as error:
            raise _refusal(
                error.code, at_recipient=isinstance(error, aiosmtplib.SMTPRecipientRefused)
            ) from error
        except (SMTPException, OSError) as error:
            raise ThrottledError("lost_before_data", type(error).__name__) from error
        try:
            await client.data(content)
        except SMTPResponseException as error:
            if error.code < _TEMPORARY:  # no refusal, and not the promised 250 either: it may be taken
                raise OutcomeUnknownError("bad_reply", str(error.code)) from error
            raise _refusal(error.code, at_recipient=False) from error
        except (SMTPException, OSError) as error:
            raise OutcomeUnknownError("no_reply", type(error).__name__) from error


def _refusal(code: int, *, at_recipient: bool) -> ProviderError:
    """Put a reply into one of our classes. Its text is left out: it may quote the address."""
    if code < _PERMANENT:  # 4xx, and 421 among them: later
        return ThrottledError(str(code), "the relay asks to try later")
    if at_recipient and code in _MAILBOX_CODES:
        return RecipientRefusedError(str(code), "no such mailbox")
    return RejectedError(str(code), "refused")
